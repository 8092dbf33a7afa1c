package machine_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
)

// serveText answers every connection on l with text, until the test ends.
func serveText(t *testing.T, l net.Listener, text string) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}

func TestTwoMachinesHaveTheSamePortOnTheirLoopbacks(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	for _, name := range []string{"one", "two"} {
		m := start(t, vm(), k)
		l, err := m.Root().Listen(8000)
		if err != nil {
			t.Fatal(err)
		}
		serveText(t, l, name)
		client := dial(t, m, k)
		for _, host := range []string{"127.0.0.1", "localhost", "[::1]"} {
			conn, err := client.Dial("tcp", host+":8000")
			if err != nil {
				t.Fatalf("%s: %v", host, err)
			}
			got, err := io.ReadAll(conn)
			if err != nil || string(got) != name {
				t.Errorf("%s answers %q, %v; want %q", host, got, err, name)
			}
			_ = conn.Close()
		}
	}
}

func TestHTTPThroughTheForwarding(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	l, err := m.Root().Listen(8000)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d", r.Method, r.URL.Path, len(body))
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	client := dial(t, m, k)
	transport := &http.Transport{DialContext: client.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	for range 3 {
		resp, err := (&http.Client{Transport: transport, Timeout: limit}).
			Post("http://127.0.0.1:8000/x", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(body) != "POST /x 1048576" {
			t.Errorf("got %q", body)
		}
	}
}

func TestWhatForwardingRefuses(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveText(t, outside, "the tester's own")
	m := start(t, container(), k)
	client := dial(t, m, k)
	for _, test := range []struct {
		network, address string
		reason           ssh.RejectionReason
		message          string
	}{
		{"tcp", "127.0.0.1:8000", ssh.ConnectionFailed, "Connection refused"},
		{"tcp", outside.Addr().String(), ssh.ConnectionFailed, "Connection refused"}, // the tester's loopback isn't the machine's
		{"tcp", "example.com:443", ssh.Prohibited, "no way to the outside"},
		{"tcp", "10.0.0.1:22", ssh.Prohibited, "no way to the outside"},
		{"unix", "/var/run/docker.sock", ssh.ConnectionFailed, "open failed"}, // this one has no Docker
		{"unix", "/etc/passwd", ssh.Prohibited, "the one socket"},
	} {
		conn, err := client.Dial(test.network, test.address)
		if err == nil {
			_ = conn.Close()
			t.Errorf("%s: connected", test.address)
			continue
		}
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) || refused.Reason != test.reason || !strings.Contains(refused.Message, test.message) {
			t.Errorf("%s: %v; want %v and %q", test.address, err, test.reason, test.message)
		}
	}
	if l, err := client.Listen("tcp", "127.0.0.1:9000"); err == nil {
		_ = l.Close()
		t.Error("remote forwarding was accepted")
	}
	if ok, _, err := client.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Errorf("a keepalive wasn't answered: %v, %v", ok, err)
	}
}

func TestAJumpHostReachesItsRoutes(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	inner := start(t, vm(), k)
	outer := startWith(t, machine.Options{Facts: vm(), AuthorizedKeys: []string{k.line()}, Routes: []string{inner.Addr()}})
	conn, err := dial(t, outer, k).Dial("tcp", inner.Addr())
	if err != nil {
		t.Fatal(err)
	}
	through, channels, requests, err := ssh.NewClientConn(conn, inner.Addr(), &ssh.ClientConfig{
		User: inner.User(), Auth: []ssh.AuthMethod{ssh.PublicKeys(k.signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(through, channels, requests)
	defer client.Close()
	if got := strings.TrimSpace(output(t, client, "pwd")); got != inner.Root().Home() {
		t.Errorf("landed in %s", got)
	}
}

// serveEcho plays a container engine: it sends back what it is sent, and its end after the client's.
func serveEcho(t *testing.T, m *machine.Machine) {
	t.Helper()
	l, err := net.Listen("unix", m.Root().DockerSocket())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n, _ := io.Copy(conn, conn)
			fmt.Fprintf(conn, "|%d", n)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}

func TestTheContainerEngineIsReachedInBothWays(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	serveEcho(t, m)
	client := dial(t, m, k)
	for _, command := range []string{"docker system dial-stdio", "sudo -n docker system dial-stdio"} {
		got := runWith(t, client, command, strings.NewReader("hello"))
		if got.stdout != "hello|5" || got.code != 0 {
			t.Errorf("%s: %+v", command, got)
		}
	}
	conn, err := client.Dial("unix", "/var/run/docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "hello")
	if half, ok := conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		t.Fatal("no half-close")
	}
	if got, _ := bufio.NewReader(conn).ReadString(0); got != "hello|5" {
		t.Errorf("got %q", got)
	}
}
