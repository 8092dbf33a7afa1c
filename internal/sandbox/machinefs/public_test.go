package machinefs_test

import (
	"errors"
	"io"
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func machineAt(t *testing.T, address string) machinefs.Root {
	t.Helper()
	dir := testkit.Dir(t)
	root := machinefs.Root(dir)
	if err := root.Create(); err != nil {
		t.Fatal(err)
	}
	if err := root.WriteFacts(machinefs.Facts{PublicAddress: address}); err != nil {
		t.Fatal(err)
	}
	return root
}

// A port of all addresses answers inside and outside; one of a machine without an
// address of its own inside only.
func TestListenAll(t *testing.T) {
	t.Parallel()
	root, port := machineAt(t, "127.0.0.1"), testkit.FreePort(t)
	outside := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	listener, err := root.ListenAll(port)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello")
			_ = conn.Close()
		}
	}()
	inside := func() (net.Conn, error) { return root.Dial(t.Context(), port) }
	tcp := func() (net.Conn, error) { return new(net.Dialer).DialContext(t.Context(), "tcp", outside) }
	for name, dial := range map[string]func() (net.Conn, error){"inside": inside, "outside": tcp} {
		conn, err := dial()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if said, err := io.ReadAll(conn); string(said) != "hello" {
			t.Errorf("%s: %q, %v", name, said, err)
		}
		_ = conn.Close()
	}
	other := machineAt(t, "127.0.0.1")
	if _, err := other.ListenAll(port); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the same port of the same address: %v", err)
	}
	if _, err := other.Dial(t.Context(), port); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("half of it was left open: %v", err)
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	<-served
	closedInside := machineAt(t, "")
	listener, err = closedInside.ListenAll(port)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if conn, err := tcp(); err == nil {
		_ = conn.Close()
		t.Error("a machine without an address of its own opened a port")
	}
}
