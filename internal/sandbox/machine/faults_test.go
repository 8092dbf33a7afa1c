package machine_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
)

func asExit(err error, exit **ssh.ExitError) bool { return errors.As(err, exit) }

func TestWhoMayLogIn(t *testing.T) {
	t.Parallel()
	k, other := newKey(t), newKey(t)
	m := start(t, vm(), k)
	if _, err := tryDial(m, other); err == nil {
		t.Error("a key that isn't authorized got in")
	}
	client := dial(t, m, k)
	output(t, client, "echo '# mine' >> .ssh/authorized_keys; echo '"+strings.TrimSpace(other.line())+"' >> .ssh/authorized_keys")
	dial(t, m, other)
	m.RefuseKeys(true)
	if _, err := tryDial(m, k); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("refusing keys: %v", err)
	}
	m.RefuseKeys(false)
	dial(t, m, k)
	wrong, err := ssh.Dial("tcp", m.Addr(), &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(k.signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err == nil {
		_ = wrong.Close()
		t.Error("root got into a VM")
	}
	if err := os.Remove(filepath.Join(m.Root().Home(), ".ssh", "authorized_keys")); err != nil {
		t.Fatal(err)
	}
	if _, err := tryDial(m, k); err == nil {
		t.Error("a key got in without the file that authorizes it")
	}
}

func TestDroppedConnections(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	client := dial(t, m, k)
	m.DropConnections()
	if err := client.Wait(); err == nil {
		t.Error("the connection ended well")
	}
	dial(t, m, k)
}

func TestAClosedPortStaysTheMachines(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := startWith(t, machine.Options{Facts: vm(), AuthorizedKeys: []string{k.line()}, NotListening: true})
	for range 3 {
		if _, err := tryDial(m, k); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("not listening: %v", err)
		}
		if err := m.ResumeListening(); err != nil {
			t.Fatal(err)
		}
		client := dial(t, m, k)
		if err := m.StopListening(); err != nil {
			t.Fatal(err)
		}
		output(t, client, "true") // it goes on
	}
}

func TestAChangedHostKey(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	before := m.HostKeys()
	if err := m.ChangeHostKey(); err != nil {
		t.Fatal(err)
	}
	for i, after := range m.HostKeys() {
		if after == before[i] {
			t.Errorf("unchanged: %s", after)
		}
	}
	dial(t, m, k)
}

func TestAHangingMachine(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	client := dial(t, m, k)
	m.Unresponsive(true)
	conn, err := net.Dial("tcp", m.Addr())
	if err != nil {
		t.Fatalf("it doesn't accept: %v", err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it answered: %d, %v", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("a keepalive was answered: %v", err)
	case <-ctx.Done():
	}
	m.Unresponsive(false)
	if err := <-answered; err != nil {
		t.Errorf("it didn't wake up: %v", err)
	}
	dial(t, m, k)
	m.Unresponsive(true) // Close has to end it like this, too
}

func TestAMovedMachineAnswersAtItsNewPortOnly(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	old := m.Addr()
	if err := m.ChangePort(); err != nil {
		t.Fatal(err)
	}
	if m.Addr() == old {
		t.Fatal("the machine is where it was")
	}
	if conn, err := net.Dial("tcp", old); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the old port: %v, %v", conn, err)
	}
	dial(t, m, k)
}

func TestAProxyDropsIdleConnections(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := startWith(t, machine.Options{Facts: vm(), AuthorizedKeys: []string{k.line()}, Idle: time.Second})
	client := dial(t, m, k)
	output(t, client, "for i in 1 2 3; do sleep 0.5; echo; done") // busy for longer than that
	if err := client.Wait(); err == nil {
		t.Error("the connection ended well")
	}
	dial(t, m, k)
}
