package vllmdeployment

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/providerdata"
)

// hostKeyKey is where private state keeps the host key that was trusted at first
// contact, for a machine whose key was not given.
const hostKeyKey = "host_key"

// loginLimit bounds the wait for a machine that doesn't answer at first.
const loginLimit = 5 * time.Minute

type privateReader interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
}

type privateWriter interface {
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}

// machine is a login to the deployment's machine.
type machine struct {
	client *host.Client
}

func (m machine) close() { _ = m.client.Close() }

// connect logs in, waiting for a while for a machine that doesn't answer yet.
func (r *Resource) connect(ctx context.Context, m model, write privateWriter, read privateReader) (machine, error) {
	return r.login(ctx, m, write, read, func(ctx context.Context, cfg host.Config) (*host.Client, error) {
		ctx, cancel := context.WithTimeout(ctx, loginLimit)
		defer cancel()
		return host.DialUntil(ctx, cfg)
	})
}

// connectOnce logs in without waiting.
func (r *Resource) connectOnce(ctx context.Context, m model, write privateWriter, read privateReader) (machine, error) {
	return r.login(ctx, m, write, read, host.Dial)
}

func (r *Resource) login(ctx context.Context, m model, write privateWriter, read privateReader,
	dial func(context.Context, host.Config) (*host.Client, error),
) (machine, error) {
	ssh, diags := m.sshOf(ctx)
	if diags.HasError() {
		return machine{}, fmt.Errorf("the ssh attribute can't be read: %v", diags)
	}
	cfg := ssh.Config(r.credentials())
	pinned := cfg.HostKey != ""
	if !pinned && read != nil {
		cfg.HostKey = trusted(ctx, read)
	}
	client, err := dial(ctx, cfg)
	if err != nil {
		return machine{}, err
	}
	if !pinned && write != nil && cfg.HostKey == "" {
		if err := trust(ctx, write, client.HostKey()); err != nil {
			_ = client.Close()
			return machine{}, err
		}
	}
	return machine{client: client}, nil
}

func (r *Resource) credentials() providerdata.SSH {
	if r.data == nil {
		return providerdata.SSH{}
	}
	return r.data.SSH
}

// trusted is the host key seen at first contact, "" if there was none.
func trusted(ctx context.Context, read privateReader) string {
	value, _ := read.GetKey(ctx, hostKeyKey)
	var key string
	_ = json.Unmarshal(value, &key)
	return key
}

// trust keeps the host key seen at first contact.
func trust(ctx context.Context, write privateWriter, key string) error {
	value, err := json.Marshal(key)
	if err != nil {
		return err
	}
	if diags := write.SetKey(ctx, hostKeyKey, value); diags.HasError() {
		return fmt.Errorf("the host key could not be kept: %v", diags)
	}
	return nil
}
