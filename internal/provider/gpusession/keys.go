package gpusession

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/sshattr"
)

// keysTimeout bounds the changes to a machine's authorized keys.
const keysTimeout = 2 * time.Minute

// keysScript changes the login user's authorized keys: its arguments are the
// number of keys to add, those keys, and the keys to remove. Public keys are no
// secret, and arguments are never read by the shell.
//
//go:embed keys.sh
var keysScript string

// checkPublicKey says what is wrong with s as a line of authorized_keys.
func checkPublicKey(s string) error {
	if strings.ContainsAny(s, "\r\n") {
		return errors.New("a public key is one line")
	}
	if err := host.ParseHostKey(s); err != nil || strings.HasPrefix(s, "@") {
		return errors.New("it is not a public key in the form of authorized_keys, such as ssh-ed25519 AAAA…")
	}
	return nil
}

// authorizedKeys are the user's public keys.
func (m model) authorizedKeys(ctx context.Context) ([]string, diagnostics) {
	var keys []string
	if m.AuthorizedKeys.IsNull() || m.AuthorizedKeys.IsUnknown() {
		return nil, nil
	}
	diags := m.AuthorizedKeys.ElementsAs(ctx, &keys, false)
	return keys, diags
}

// retains reports whether the one-time key may be kept in state.
func (m model) retains() bool {
	return m.RetainPrivateKey.IsNull() || m.RetainPrivateKey.ValueBool()
}

// settleKeys brings the machine's authorized keys in line with the
// configuration: the user's keys are installed, those that are no longer listed
// removed, and, where the one-time key is not to be retained, that one removed
// once a login with the provider's credentials has worked. It returns the
// one-time key as it is to be kept: null once it is good for nothing. An error
// says what was not done; the machine is fine either way.
func (r *Resource) settleKeys(ctx context.Context, was, plan model, ssh sshattr.Keys) (types.String, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	before, _ := was.authorizedKeys(ctx)
	after, diags := plan.authorizedKeys(ctx)
	if diags.HasError() {
		return ssh.PrivateKey, fmt.Errorf("authorized_keys can't be read: %v", diags)
	}
	add := missing(after, before)
	remove := missing(before, after)
	if len(add)+len(remove) > 0 {
		if err := changeKeys(ctx, ssh.Config(r.data.SSH), add, remove); err != nil {
			return ssh.PrivateKey, fmt.Errorf("the keys in authorized_keys could not be installed: %w", err)
		}
	}
	if plan.retains() || ssh.PrivateKey.IsNull() {
		return ssh.PrivateKey, nil
	}
	if err := dropOneTimeKey(ctx, ssh, r.data.SSH); err != nil {
		return ssh.PrivateKey, fmt.Errorf("the one-time key stays in state, because no other key is proved to log in: %w", err)
	}
	return types.StringNull(), nil
}

// missing returns what of all is not in known.
func missing(all, known []string) []string {
	var rest []string
	for _, key := range all {
		if !slices.Contains(known, key) {
			rest = append(rest, key)
		}
	}
	return rest
}

// dropOneTimeKey removes the one-time key from the machine, over a login that
// doesn't use it.
func dropOneTimeKey(ctx context.Context, ssh sshattr.Keys, credentials providerdata.SSH) error {
	if credentials.PrivateKey == "" && credentials.AgentSocket == "" {
		return errors.New("retain_private_key is false and the provider has no ssh credentials to log in with instead; give the" +
			" provider ssh.private_key or ssh.agent")
	}
	public, err := host.PublicKeyOf(ssh.PrivateKey.ValueString())
	if err != nil {
		return err
	}
	own := ssh
	own.PrivateKey = types.StringNull()
	return changeKeys(ctx, own.Config(credentials), nil, []string{public})
}

// changeKeys logs in and adds and removes authorized keys.
func changeKeys(ctx context.Context, cfg host.Config, add, remove []string) error {
	machine, err := host.DialUntil(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = machine.Close() }()
	args := append([]string{"sh", "-c", keysScript, "sh", fmt.Sprint(len(add))}, add...)
	result, err := machine.Run(ctx, host.Command{Args: append(args, remove...)})
	if err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return fmt.Errorf("changing the machine's authorized keys ended with exit code %d: %s", result.ExitCode,
			strings.TrimSpace(result.Stderr))
	}
	return nil
}
