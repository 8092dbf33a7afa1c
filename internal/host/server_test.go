//go:build unix

package host

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

// faults are what a test server does wrong. Each may be set at any time.
type faults struct {
	mute          atomic.Bool // accept connections and never speak
	ignoreGlobal  atomic.Bool // never answer a global request
	ignoreOpen    atomic.Bool // never answer a channel that is to be opened
	ignoreExec    atomic.Bool // never answer an exec request
	ignoreClose   atomic.Bool // keep channels open after their command ended
	refuseOpen    atomic.Bool // refuse sessions for lack of room
	refuseExec    atomic.Bool // refuse to run commands
	refuseForward atomic.Bool // forward nothing
	noStatus      atomic.Bool // end commands without an exit status
	noSignals     atomic.Bool // pass no signals on
	maxSessions   atomic.Int32
}

// testServer is an SSH server that runs commands with a real /bin/sh.
type testServer struct {
	t        *testing.T
	faults   faults
	listener net.Listener
	config   *ssh.ServerConfig
	client   crypto.Signer // the key that may log in
	hostKey  crypto.Signer
	asked    chan struct{} // closed when a command was asked for that ignoreExec leaves unanswered
	asking   sync.Once
	busy     chan struct{} // nil, or no sweep starts until it is closed

	work      sync.WaitGroup
	mu        sync.Mutex
	conns     []*gatedConn
	commands  []string
	processes []int
	logins    int // refused ones too
}

// gatedConn can be made to stop reading, as if its machine had hung.
type gatedConn struct {
	net.Conn
	frozen atomic.Bool
	thaw   chan struct{}
	once   sync.Once
}

func (g *gatedConn) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if g.frozen.Load() {
		<-g.thaw
		return 0, net.ErrClosed
	}
	return n, err
}

func (g *gatedConn) Close() error {
	g.once.Do(func() { close(g.thaw) })
	return g.Conn.Close()
}

// newServerConfig is a server that lets one key in, without a listener.
func newServerConfig(t *testing.T, hostKeys ...crypto.Signer) *testServer {
	t.Helper()
	if len(hostKeys) == 0 {
		hostKeys = []crypto.Signer{newEd25519(t)}
	}
	s := &testServer{t: t, client: newEd25519(t), hostKey: hostKeys[0], asked: make(chan struct{})}
	allowed := toSigner(t, s.client).PublicKey().Marshal()
	s.config = &ssh.ServerConfig{
		MaxAuthTries: 20,
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if bytes.Equal(key.Marshal(), allowed) {
				return &ssh.Permissions{}, nil
			}
			return nil, errors.New("not this key")
		},
	}
	for _, key := range hostKeys {
		s.config.AddHostKey(toSigner(t, key))
	}
	return s
}

// startServer starts a server on a free loopback port and ends it with the test.
func startServer(t *testing.T, hostKeys ...crypto.Signer) *testServer {
	t.Helper()
	s := newServerConfig(t, hostKeys...)
	s.listen("127.0.0.1:0")
	return s
}

func (s *testServer) listen(address string) {
	s.t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.listener = listener
	s.work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			gated := s.track(conn)
			s.work.Go(func() { s.serve(gated) })
		}
	})
	s.t.Cleanup(s.stop)
}

func (s *testServer) track(conn net.Conn) *gatedConn {
	gated := &gatedConn{Conn: conn, thaw: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, gated)
	return gated
}

func (s *testServer) stop() {
	_ = s.listener.Close()
	s.drop()
	s.work.Wait()
}

// drop cuts every connection.
func (s *testServer) drop() {
	for _, conn := range s.connections() {
		_ = conn.Close()
	}
}

// freeze stops reading from every connection.
func (s *testServer) freeze() {
	for _, conn := range s.connections() {
		conn.frozen.Store(true)
	}
}

func (s *testServer) connections() []*gatedConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conns)
}

// commandLog is every command line that was received.
func (s *testServer) commandLog() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commands)
}

// pids are the process groups that were started.
func (s *testServer) pids() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.processes)
}

func (s *testServer) loginCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins
}

// dialConfig logs in to the server.
func (s *testServer) dialConfig() Config {
	s.t.Helper()
	host, service, err := net.SplitHostPort(s.listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	port, err := strconv.Atoi(service)
	if err != nil {
		s.t.Fatal(err)
	}
	return Config{
		Host: host, Port: port, User: "tester",
		PrivateKeys: []string{openSSH(s.t, s.client)}, connectTimeout: patience,
	}
}

// pinnedConfig does so where the server's host key is known already.
func (s *testServer) pinnedConfig() Config {
	s.t.Helper()
	cfg := s.dialConfig()
	cfg.HostKey = publicLine(s.t, s.hostKey)
	return cfg
}

// route is a Config's dial that leads to a server, and then to another one.
type route struct{ to atomic.Pointer[testServer] }

// routed is pinnedConfig over a route.
func (s *testServer) routed() (Config, *route) {
	cfg, r := s.pinnedConfig(), new(route)
	r.to.Store(s)
	cfg.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return r.to.Load().dial(ctx, network, address)
	}
	return cfg, r
}

// dial is a Config's dial that leads to the server, whatever the address.
func (s *testServer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, s.listener.Addr().String())
}

func (s *testServer) serve(raw net.Conn) {
	defer func() { _ = raw.Close() }()
	s.mu.Lock()
	s.logins++
	s.mu.Unlock()
	if s.faults.mute.Load() {
		_, _ = io.Copy(io.Discard, raw)
		return
	}
	conn, channels, requests, err := ssh.NewServerConn(raw, s.config)
	if err != nil {
		return
	}
	s.work.Go(func() {
		for request := range requests {
			if request.WantReply && !s.faults.ignoreGlobal.Load() {
				_ = request.Reply(false, nil)
			}
		}
	})
	var sessions atomic.Int32
	for channel := range channels {
		s.open(channel, &sessions)
	}
	_ = conn.Wait()
}

func (s *testServer) open(channel ssh.NewChannel, sessions *atomic.Int32) {
	if s.faults.ignoreOpen.Load() {
		return
	}
	switch channel.ChannelType() {
	case "session":
		if most := s.faults.maxSessions.Load(); s.faults.refuseOpen.Load() || most > 0 && sessions.Load() >= most {
			_ = channel.Reject(ssh.ConnectionFailed, "open failed")
			return
		}
		ch, requests, err := channel.Accept()
		if err == nil {
			sessions.Add(1)
			s.work.Go(func() {
				defer sessions.Add(-1)
				s.session(ch, requests)
			})
		}
	case "direct-tcpip", "direct-streamlocal@openssh.com":
		s.forward(channel)
	default:
		_ = channel.Reject(ssh.UnknownChannelType, "unknown")
	}
}

func (s *testServer) forward(channel ssh.NewChannel) {
	network, address := "unix", ""
	var tcp struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	var local struct {
		Path, Reserved string
		Number         uint32
	}
	if ssh.Unmarshal(channel.ExtraData(), &tcp) == nil {
		network, address = "tcp", net.JoinHostPort(tcp.Host, strconv.Itoa(int(tcp.Port)))
	} else if ssh.Unmarshal(channel.ExtraData(), &local) == nil {
		address = local.Path
	}
	if s.faults.refuseForward.Load() {
		_ = channel.Reject(ssh.Prohibited, "administratively prohibited")
		return
	}
	s.work.Go(func() {
		target, err := net.Dial(network, address)
		if err != nil {
			_ = channel.Reject(ssh.ConnectionFailed, "Connection refused")
			return
		}
		defer func() { _ = target.Close() }()
		ch, requests, err := channel.Accept()
		if err != nil {
			return
		}
		s.work.Go(func() {
			_, _ = io.Copy(target, ch)
			if half, ok := target.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		})
		s.work.Go(func() {
			ssh.DiscardRequests(requests)
			_ = target.Close()
		})
		_, _ = io.Copy(ch, target)
		_ = ch.CloseWrite()
		_ = ch.Close()
	})
}

func (s *testServer) session(ch ssh.Channel, requests <-chan *ssh.Request) {
	pid, cut := 0, func() {}
	for request := range requests {
		switch request.Type {
		case "exec":
			if s.faults.ignoreExec.Load() {
				s.asking.Do(func() { close(s.asked) })
				continue
			}
			var payload struct{ Command string }
			if s.faults.refuseExec.Load() || ssh.Unmarshal(request.Payload, &payload) != nil {
				_ = request.Reply(false, nil)
				continue
			}
			if s.busy != nil && strings.Contains(payload.Command, "marked()") {
				<-s.busy
			}
			pid, cut = s.exec(ch, payload.Command, func(ok bool) { _ = request.Reply(ok, nil) })
		case "signal":
			var payload struct{ Signal string }
			if pid > 0 && !s.faults.noSignals.Load() && ssh.Unmarshal(request.Payload, &payload) == nil {
				number := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[payload.Signal]
				_ = syscall.Kill(-pid, number)
			}
		default:
			if request.WantReply {
				_ = request.Reply(false, nil)
			}
		}
	}
	if pid > 0 {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	cut()
}

// exec starts a command as sshd does: streams are pipes, the status goes out when the command has
// ended, and the channel is closed when its streams have ended too. cut closes the streams, whatever
// processes hold their other ends. The client hears that it starts before anything else.
func (s *testServer) exec(ch ssh.Channel, line string, reply func(bool)) (pid int, cut func()) {
	cmd := exec.Command("/bin/sh", "-c", line)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err1 := cmd.StdinPipe()
	outRead, outWrite, err2 := os.Pipe()
	errRead, errWrite, err3 := os.Pipe()
	if err := errors.Join(err1, err2, err3); err != nil {
		s.t.Error(err)
		reply(false)
		return 0, func() {}
	}
	cmd.Stdout, cmd.Stderr = outWrite, errWrite
	reply(true) // before the command can be seen to run
	if err := cmd.Start(); err != nil {
		s.t.Error(err)
		return 0, func() {}
	}
	_ = outWrite.Close()
	_ = errWrite.Close()
	s.mu.Lock()
	s.commands = append(s.commands, line)
	s.processes = append(s.processes, cmd.Process.Pid)
	s.mu.Unlock()

	s.work.Go(func() {
		_, _ = io.Copy(stdin, ch)
		_ = stdin.Close()
	})
	var streams sync.WaitGroup
	streams.Go(func() { _, _ = io.Copy(ch, outRead); _ = outRead.Close() })
	streams.Go(func() { _, _ = io.Copy(ch.Stderr(), errRead); _ = errRead.Close() })
	s.work.Go(func() {
		_ = cmd.Wait()
		if !s.faults.noStatus.Load() {
			reportStatus(ch, cmd.ProcessState)
		}
		streams.Wait()
		_ = ch.CloseWrite()
		if !s.faults.ignoreClose.Load() {
			_ = ch.Close()
		}
	})
	return cmd.Process.Pid, func() {
		_ = outRead.Close()
		_ = errRead.Close()
	}
}

func reportStatus(ch ssh.Channel, state *os.ProcessState) {
	status, ok := state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		name := map[syscall.Signal]string{
			syscall.SIGTERM: "TERM", syscall.SIGKILL: "KILL", syscall.SIGSEGV: "SEGV",
		}[status.Signal()]
		_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal         string
			CoreDumped     bool
			Error, Langtag string
		}{Signal: name}))
		return
	}
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(state.ExitCode())}))
}
