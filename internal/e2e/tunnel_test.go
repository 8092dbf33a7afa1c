package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	tunnels   = 12
	tunnelKey = "sk-throughTheTunnel"
)

// tunnelled is a server behind many tunnels, which a provisioner uses until the
// file "done" is there. It is started again for each turn.
func tunnelled(turn string) []string {
	return []string{
		session("m", `offer_id = "bluelobster-1x-a5000"`),
		deployment(`container = { image = "`+servedImage+`" }`, fmt.Sprintf("api_key = %q", tunnelKey)),
		fmt.Sprintf(`
ephemeral "shopper_ssh_tunnel" "m" {
  count      = %d
  ssh        = shopper_gpu_session.m.ssh
  depends_on = [shopper_vllm_deployment.m]
}
resource "terraform_data" "use" {
  triggers_replace = %q
  provisioner "local-exec" {
    command     = "echo $ADDRESSES >new && mv new addresses && while [ ! -e done ]; do sleep 0.05; done"
    environment = { ADDRESSES = join(" ", ephemeral.shopper_ssh_tunnel.m[*].address) }
  }
}
`, tunnels, turn),
	}
}

// addresses waits until the tunnels are open and says where.
func (s *stack) addresses(t *testing.T, e *execution) []string {
	t.Helper()
	file := filepath.Join(s.dir, "addresses")
	var found []string
	eventually(t, func() error {
		select {
		case <-e.ended:
			t.Fatalf("it ended before the tunnels were used:\n%s", e.out.String())
		default:
		}
		data, err := os.ReadFile(file)
		found = strings.Fields(string(data))
		return err
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if len(found) != tunnels {
		t.Fatalf("%d tunnels, want %d: %v", len(found), tunnels, found)
	}
	return found
}

// askThrough asks the server through all tunnels at once.
func askThrough(t *testing.T, addresses []string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	var asking sync.WaitGroup
	for _, address := range addresses {
		asking.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v1/models", http.NoBody)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+tunnelKey)
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), servedModel) {
				t.Errorf("%s: %s %s, %v", address, resp.Status, body, err)
			}
		})
	}
	asking.Wait()
}

// shut waits until nothing listens at any of the addresses.
func shut(t *testing.T, addresses []string) {
	t.Helper()
	eventually(t, func() error {
		for _, address := range addresses {
			conn, err := new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "tcp", address)
			if err == nil {
				_ = conn.Close()
				return fmt.Errorf("%s is still open", address)
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				return err
			}
		}
		return nil
	})
}

// Many tunnels are open at once, and all of them, with what goes through them, end
// with the run, however that ends; a plain apply then opens others.
func TestE2ETunnelsEnd(t *testing.T) {
	t.Parallel()
	w := servingWorld(t, time.Second)
	needProc(t)
	s := w.newStack(t, "s")
	s.write(t, tunnelled("")[:2]...) // in state before anything is cut short
	s.apply(t)
	for _, c := range crashes {
		s.write(t, tunnelled(c.name)...)
		before := s.stateText(t)
		e := s.start(t, applyArgs...)
		addresses := s.addresses(t, e)
		askThrough(t, addresses)
		held, err := new(net.Dialer).DialContext(t.Context(), "tcp", addresses[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(held, "GET /v1/models HTTP/1.1\r\n"); err != nil {
			t.Error(err)
		}

		c.strike(t, w, e)
		shut(t, addresses)
		if err := held.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadAll(held); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: a connection through a tunnel is still open", c.name)
		}
		_ = held.Close()
		s.done(t, e)
		// A CLI that is interrupted twice may end between emptying its state file and writing it
		// (internal/states/statemgr/filesystem.go of Terraform 1.16.2), as the guide about money says.
		if !c.orderly && s.stateText(t) == "" {
			t.Logf("%s: the CLI left an empty state file", c.name)
			write(t, s.stateFile(), before)
		}
		t.Logf("ROW %s, %s: %d tunnels closed, exit code %d", c.name, built.version, tunnels, e.cmd.ProcessState.ExitCode())
	}

	s.write(t, tunnelled("afterwards")...)
	e := s.start(t, applyArgs...)
	addresses := s.addresses(t, e)
	askThrough(t, addresses)
	s.done(t, e)
	if code := e.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the last apply ended with exit code %d:\n%s", code, e.out.String())
	}
	shut(t, addresses)
	s.destroy(t)
}

// done lets the provisioner end, and waits for the run and all its processes.
func (s *stack) done(t *testing.T, e *execution) {
	t.Helper()
	file := filepath.Join(s.dir, "done")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e.wait(t)
	s.world.quiet(t)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}
