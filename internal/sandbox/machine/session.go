package machine

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/tool"
)

// session is one session channel: a command, a shell or a subsystem.
type session struct {
	machine *Machine
	channel ssh.Channel
	env     []string // in addition to the login's
	tty     *terminal

	ctx     context.Context //nolint:containedctx // ends when the client has closed the channel
	work    sync.WaitGroup
	running *process // nil until a command runs
	started bool
}

// maxSessionEnv bounds what a client may set.
const maxSessionEnv = 64

func (c *connection) session(request ssh.NewChannel) {
	channel, requests, err := request.Accept()
	if err != nil {
		return
	}
	ctx, gone := context.WithCancel(c.machine.ctx)
	defer gone()
	s := &session{machine: c.machine, channel: channel, ctx: ctx}
	s.env = append(s.env, connectionEnv(c.conn)...)
	for request := range requests {
		ok := s.take(request)
		if request.WantReply {
			s.machine.traffic.exchanges.Add(1)
			_ = request.Reply(ok, nil)
		}
		if ok {
			s.begin(request)
		}
	}
	gone()
	s.work.Wait()
	s.tty.close()
	_ = channel.Close()
}

// take accepts or refuses a request, and does what has to be done before its answer.
func (s *session) take(request *ssh.Request) bool {
	switch request.Type {
	case "env":
		return s.setEnv(request.Payload)
	case "pty-req":
		return s.openTerminal(request.Payload)
	case "signal":
		return s.signal(request.Payload)
	case "exec", "shell":
		return !s.started
	case "subsystem":
		var subsystem struct{ Name string }
		return !s.started && ssh.Unmarshal(request.Payload, &subsystem) == nil && subsystem.Name == "sftp"
	}
	return false
}

// begin starts what an accepted request asks for, after its answer, which output must not
// overtake.
func (s *session) begin(request *ssh.Request) {
	switch request.Type {
	case "exec":
		var command struct{ Line string }
		_ = ssh.Unmarshal(request.Payload, &command) // an unreadable one is an empty command
		s.record(command.Line)
		s.run([]string{"sh", "-c", command.Line})
	case "shell":
		s.record("sh")
		s.run(s.shell())
	case "subsystem":
		s.record("internal-sftp")
		s.started = true
		s.work.Go(s.serveSFTP)
	}
}

// shell is an sh that reads commands. It is no login shell: the computer's login files
// would change PATH.
func (s *session) shell() []string {
	if s.tty != nil {
		return []string{"sh", "-i"}
	}
	return []string{"sh"}
}

func (s *session) record(commandLine string) {
	_ = s.machine.root.Record(commandLine) // fails only once the machine is gone
}

func (s *session) setEnv(payload []byte) bool {
	var variable struct{ Name, Value string }
	if ssh.Unmarshal(payload, &variable) != nil || len(s.env) >= maxSessionEnv {
		return false
	}
	if variable.Name != "LANG" && !strings.HasPrefix(variable.Name, "LC_") { // sshd_config's AcceptEnv on Ubuntu
		return false
	}
	s.env = append(s.env, variable.Name+"="+variable.Value)
	return true
}

func connectionEnv(conn ssh.ConnMetadata) []string {
	client, clientPort, _ := net.SplitHostPort(conn.RemoteAddr().String()) // both are TCP addresses
	server, serverPort, _ := net.SplitHostPort(conn.LocalAddr().String())
	return []string{
		"SSH_CLIENT=" + strings.Join([]string{client, clientPort, serverPort}, " "),
		"SSH_CONNECTION=" + strings.Join([]string{client, clientPort, server, serverPort}, " "),
	}
}

// loginEnv is the environment of a login. It has nothing of the computer's own.
func (m *Machine) loginEnv() []string {
	user := m.User()
	return append([]string{
		"HOME=" + m.root.Home(),
		"USER=" + user,
		"LOGNAME=" + user,
		"SHELL=/bin/sh",
		"PATH=" + m.root.Path(),
		"TMPDIR=" + m.root.Tmp(),
		"LANG=C.UTF-8",
		"PS1=" + user + "@" + m.hostname + "$ ",
		machinefs.Env + "=" + string(m.root),
		tool.UserEnv + "=" + user,
		tool.HostnameEnv + "=" + m.hostname,
	}, machinefs.Instrumentation()...)
}

func (s *session) signal(payload []byte) bool {
	var request struct{ Name string }
	if ssh.Unmarshal(payload, &request) != nil || s.running == nil {
		return false
	}
	return slices.Contains(signals, request.Name) && s.running.signal(unix.SignalNum("SIG"+request.Name))
}

func (s *session) run(argv []string) {
	s.started = true
	env := append(s.machine.loginEnv(), s.env...)
	if s.tty != nil {
		env = append(env, "TERM="+s.tty.name)
	}
	running, err := startProcess(argv, env, s.machine.root.Home(), s.tty)
	if err != nil {
		_, _ = s.channel.Stderr().Write([]byte("sandbox: " + err.Error() + "\n"))
		_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{127}))
		_ = s.channel.Close()
		return
	}
	s.running = running
	s.work.Go(func() { running.attend(s.ctx, s.machine.ctx, s.channel) })
}

// sendExit reports to the client how its command ended.
func sendExit(channel ssh.Channel, end exit) {
	if end.signal == 0 {
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(end.code)}))
		return
	}
	name := strings.TrimPrefix(unix.SignalName(end.signal), "SIG")
	if !slices.Contains(signals, name) {
		name = "SIG" + strconv.Itoa(int(end.signal)) + "@openssh.com"
	}
	_, _ = channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Signal     string
		CoreDumped bool
		Message    string
		Language   string
	}{Signal: name, CoreDumped: end.core}))
}
