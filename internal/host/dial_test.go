//go:build unix

package host

import (
	"context"
	"crypto"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func TestDial_BadConfiguration(t *testing.T) {
	t.Parallel()
	key := openSSH(t, newEd25519(t))
	good := Config{Host: "192.0.2.1", Port: 22, User: "root", PrivateKeys: []string{key}}
	loop := good
	loop.Bastion = &loop
	with := func(change func(*Config)) Config {
		cfg := good
		change(&cfg)
		return cfg
	}
	for name, test := range map[string]struct {
		cfg    Config
		kind   Kind
		advice string
	}{
		"no host":              {with(func(c *Config) { c.Host = "" }), BadConfig, "empty"},
		"a url for a host":     {with(func(c *Config) { c.Host = "ssh://x" }), BadConfig, "scheme"},
		"a user in the host":   {with(func(c *Config) { c.Host = "root@x" }), BadConfig, "user"},
		"a port out of range":  {with(func(c *Config) { c.Port = 65536 }), BadConfig, "65536"},
		"a negative port":      {with(func(c *Config) { c.Port = -1 }), BadConfig, "-1"},
		"no user":              {with(func(c *Config) { c.User = "" }), BadConfig, "user"},
		"no key":               {with(func(c *Config) { c.PrivateKeys = nil }), BadKey, "No key"},
		"an encrypted key":     {with(func(c *Config) { c.PrivateKeys = []string{encrypted(t, newEd25519(t))} }), BadKey, "passphrase"},
		"a bad host key":       {with(func(c *Config) { c.HostKey = "nonsense" }), BadKey, "authorized_keys"},
		"a bad certificate":    {with(func(c *Config) { c.Certificates = []string{"nonsense"} }), BadKey, "cert"},
		"not a certificate":    {with(func(c *Config) { c.Certificates = []string{publicLine(t, newEd25519(t))} }), BadKey, "user certificate"},
		"another's":            {with(func(c *Config) { c.Certificates = []string{userCertificate(t, newEd25519(t), newEd25519(t), "root")} }), BadKey, "None of"},
		"a bad bastion":        {with(func(c *Config) { c.Bastion = &Config{} }), BadConfig, "empty"},
		"a bastion of its own": {loop, BadConfig, "itself"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.cfg.dial = func(context.Context, string, string) (net.Conn, error) {
				t.Error("it was dialled")
				return nil, syscall.ECONNREFUSED
			}
			for _, dial := range []func(context.Context, Config) (*Client, error){Dial, dialUntil} {
				_, err := dial(testContext(t), test.cfg)
				if e := asKind(t, err, test.kind); !strings.Contains(e.Detail, test.advice) {
					t.Errorf("no %q in %q", test.advice, e.Detail)
				}
			}
		})
	}
}

func TestDial_Unreachable(t *testing.T) {
	t.Parallel()
	mute := startServer(t)
	mute.faults.mute.Store(true)
	impatient := mute.dialConfig()
	impatient.connectTimeout = 50 * time.Millisecond
	closed := mute.dialConfig()
	closed.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, refusingAddress(t))
	}
	web := echoServer(t, "tcp", "127.0.0.1:0") // repeats what it receives, unlike an SSH server
	echo := mute.dialConfig()
	echo.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, web)
	}
	hangs := impatient
	hangs.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	noName := mute.dialConfig()
	noName.dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}
	}
	for name, test := range map[string]struct {
		cfg    Config
		advice string
	}{
		"silent after the connection": {impatient, "Nothing answered"},
		"nothing listens":             {closed, "not up yet"},
		"not SSH":                     {echo, "another service"},
		"the dial hangs":              {hangs, "firewall"},
		"no such name":                {noName, "DNS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			within(t, patience/2, "dialling", func() {
				_, err := Dial(testContext(t), test.cfg)
				e := asKind(t, err, Unreachable)
				if !strings.Contains(e.Detail, test.advice) {
					t.Errorf("no %q in %q (%v)", test.advice, e.Detail, e)
				}
				if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
					t.Errorf("looks like the caller's context: %v", err)
				}
			})
		})
	}
}

func TestDial_Cancelled(t *testing.T) {
	t.Parallel()
	mute := startServer(t)
	mute.faults.mute.Store(true)
	dialling := make(chan struct{})
	hangs := mute.dialConfig()
	hangs.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		close(dialling)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	stuckAgent := mute.dialConfig()
	muteAgent := startAgent(t, nil)
	stuckAgent.AgentSocket = muteAgent.socket
	for name, test := range map[string]struct {
		cfg   Config
		until func() bool
	}{
		"during the dial":      {hangs, func() bool { return isClosed(dialling) }},
		"during the handshake": {mute.dialConfig(), func() bool { return mute.loginCount() > 0 }},
		"waiting for an agent": {stuckAgent, func() bool { open, _ := muteAgent.counts(); return open > 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(testContext(t))
			failed := make(chan error, 1)
			go func() {
				_, err := Dial(ctx, test.cfg)
				failed <- err
			}()
			testkit.Eventually(t, "it is under way", test.until)
			cancel()
			within(t, patience/2, "cancelling", func() {
				err := <-failed
				wantKind(t, err, Interrupted)
				if !errors.Is(err, context.Canceled) {
					t.Errorf("error is %v", err)
				}
			})
		})
	}
}

func TestDial_DeadContext(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := Dial(ctx, s.dialConfig())
	wantKind(t, err, Interrupted)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}

func TestDial_KeyTypesAndOrder(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]crypto.Signer{"RSA": newRSA(t), "ECDSA": newECDSA(t), "Ed25519": newEd25519(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServerConfig(t, key) // its host key is of the same type
			allowed := toSigner(t, key).PublicKey()
			s.config.PublicKeyCallback = func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
				if authorizedKey(offered) == authorizedKey(allowed) {
					return &ssh.Permissions{}, nil
				}
				return nil, errors.New("not this key")
			}
			s.listen("127.0.0.1:0")
			cfg := s.dialConfig()
			cfg.PrivateKeys = []string{openSSH(t, newEd25519(t)), openSSH(t, newRSA(t)), openSSH(t, key)}
			cfg.HostKey = publicLine(t, key)
			c := mustDial(t, cfg)
			if c.HostKey() != cfg.HostKey || c.addr != s.listener.Addr().String() {
				t.Errorf("host key %q, address %q", c.HostKey(), c.addr)
			}
		})
	}
}

func TestDial_Agent(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	cfg := s.dialConfig()
	cfg.PrivateKeys = nil

	full := startAgent(t, newEd25519(t), s.client)
	cfg.AgentSocket = full.socket
	mustDial(t, cfg)
	testkit.Eventually(t, "the agent's connection is closed after login", func() bool {
		open, total := full.counts()
		return open == 0 && total == 1
	})

	cfg.AgentSocket = startAgent(t).socket
	_, err := Dial(testContext(t), cfg)
	if e := asKind(t, err, BadKey); !strings.Contains(e.Detail, "ssh-add") {
		t.Errorf("empty agent: %s", e.Detail)
	}

	cfg.AgentSocket = filepath.Join(t.TempDir(), "no-agent")
	_, err = Dial(testContext(t), cfg)
	if e := asKind(t, err, AgentFailed); !strings.Contains(e.Detail, "SSH_AUTH_SOCK") {
		t.Errorf("no agent: %s", e.Detail)
	}

	cfg.AgentSocket, cfg.connectTimeout = startAgent(t, nil).socket, 50*time.Millisecond
	_, err = Dial(testContext(t), cfg)
	wantKind(t, err, AgentFailed)

	wrong := startAgent(t, newEd25519(t))
	cfg.AgentSocket, cfg.connectTimeout = wrong.socket, patience
	_, err = Dial(testContext(t), cfg)
	if e := asKind(t, err, AuthFailed); !strings.Contains(e.Detail, "(agent)") {
		t.Errorf("wrong key in the agent: %s", e.Detail)
	}
	testkit.Eventually(t, "the agent's connection is closed after a failure", func() bool {
		open, _ := wrong.counts()
		return open == 0
	})
}

func TestDial_WrongKey(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	cfg := s.dialConfig()
	wrong := newEd25519(t)
	cfg.PrivateKeys = []string{openSSH(t, wrong)}
	_, err := Dial(testContext(t), cfg)
	e := asKind(t, err, AuthFailed)
	if !strings.Contains(e.Detail, ssh.FingerprintSHA256(toSigner(t, wrong).PublicKey())) {
		t.Errorf("the key is not named: %s", e.Detail)
	}
	if strings.Contains(e.Detail+e.Error(), "PRIVATE KEY") {
		t.Error("the error holds the key")
	}
}

func TestDial_NoPublicKeyLogin(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	s.config.PublicKeyCallback = nil
	s.config.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, errors.New("no") }
	s.listen("127.0.0.1:0")
	_, err := Dial(testContext(t), s.dialConfig())
	if e := asKind(t, err, AuthFailed); !strings.Contains(e.Detail, "PubkeyAuthentication") {
		t.Errorf("detail: %s", e.Detail)
	}
}

func TestDial_HostCertificate(t *testing.T) {
	t.Parallel()
	authority, hostKey := newEd25519(t), newEd25519(t)
	s := newServerConfig(t, hostKey)
	signer, err := ssh.NewCertSigner(certificate(t, authority, hostKey, ssh.HostCert, "127.0.0.1"), toSigner(t, hostKey))
	if err != nil {
		t.Fatal(err)
	}
	s.config.AddHostKey(signer)
	s.listen("127.0.0.1:0")
	cfg := s.dialConfig()
	if got := mustDial(t, cfg).HostKey(); got != publicLine(t, hostKey) {
		t.Errorf("at first contact, %q was pinned, want the plain key", got)
	}
	cfg.HostKey = certAuthority + " " + publicLine(t, authority)
	if got := mustDial(t, cfg).HostKey(); got != cfg.HostKey {
		t.Errorf("pinned %q", got)
	}
	cfg.HostKey = certAuthority + " " + publicLine(t, newEd25519(t))
	_, err = Dial(testContext(t), cfg)
	wantKind(t, err, HostKeyChanged)
	cfg.HostKey = certAuthority + " " + publicLine(t, authority)
	cfg.Host = "localhost" // the certificate is for another name
	cfg.dial = s.dial
	_, err = Dial(testContext(t), cfg)
	wantKind(t, err, HostKeyChanged)
}

func TestDial_Bastion(t *testing.T) {
	t.Parallel()
	bastion, target := startServer(t), startServer(t)
	bastionConfig := bastion.dialConfig()
	cfg := target.dialConfig()
	cfg.Bastion = &bastionConfig
	c := mustDial(t, cfg)
	if result := mustRun(t, c, Command{Args: []string{"echo", "x"}}); result.Stdout != "x\n" {
		t.Errorf("%+v", result)
	}
	if got := bastion.commandLog(); len(got) != 0 {
		t.Errorf("the bastion ran %q", got)
	}
	bastion.drop()
	<-c.done
	wantKind(t, c.Err(), Lost)

	closed := startServer(t)
	closed.stop()
	dead := closed.dialConfig()
	dead.Bastion = &bastionConfig
	_, err := Dial(testContext(t), dead)
	if e := asKind(t, err, Unreachable); !strings.Contains(e.Error(), " via ") {
		t.Errorf("the bastion is not named: %v", e)
	}
	bastion.faults.refuseForward.Store(true)
	_, err = Dial(testContext(t), cfg)
	wantKind(t, err, Prohibited)
	deadBastion := closed.dialConfig()
	cfg.Bastion = &deadBastion
	_, err = Dial(testContext(t), cfg)
	wantKind(t, err, Unreachable)
}

// bubbleConfig logs in to s over memory, in a synctest bubble, after some failures.
func bubbleConfig(s *testServer, failures int, times *[]time.Duration) Config {
	start, attempts := time.Now(), 0
	return Config{
		Host: "machine", User: "root", PrivateKeys: []string{openSSH(s.t, s.client)},
		dial: func(context.Context, string, string) (net.Conn, error) {
			*times = append(*times, time.Since(start))
			attempts++
			if attempts <= failures {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
			}
			near, far := memPipe()
			gated := s.track(far)
			s.work.Go(func() { s.serve(gated) })
			return near, nil
		},
	}
}

// An SSH server that starts soon is found within a second of that, and with no more than thirty attempts in any minute.
func TestDialUntil_WaitsForABootingMachine(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	for _, failures := range []int{0, 8, dialsAtOnce - 1, 200} {
		synctest.Test(t, func(t *testing.T) {
			var times []time.Duration
			c, err := dialUntil(t.Context(), bubbleConfig(s, failures, &times))
			switch {
			case failures == 200:
				wantKind(t, err, Unreachable) // in ten minutes there are fewer attempts
			case err != nil || len(times) != failures+1:
				t.Fatalf("%d attempts: %v", len(times), err)
			default:
				_ = c.Close()
			}
			s.work.Wait()
			for i := 1; i < len(times); i++ {
				if pause := times[i] - times[i-1]; pause < shortPause || pause > 5*time.Second || i < dialsAtOnce && pause > time.Second {
					t.Errorf("pause %d is %s", i, pause)
				}
				if i >= dialsPerMinute && times[i]-times[i-dialsPerMinute] < time.Minute {
					t.Errorf("attempts %d to %d are within %s", i-dialsPerMinute, i, times[i]-times[i-dialsPerMinute])
				}
			}
		})
	}
}

// A machine that doesn't exist yet for the network, and then does, is found although the first request for a connection is
// still under way.
func TestDialAsksASilentAddressAgain(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	for up, early := range map[time.Duration]time.Duration{500 * time.Millisecond: 1, 2500 * time.Millisecond: -1, 8 * time.Second: 1} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			var times []time.Duration
			cfg := bubbleConfig(s, 0, &times)
			answers := cfg.dial
			cfg.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if time.Since(begun) < up {
					end, _ := ctx.Deadline()
					select {
					case <-ctx.Done():
						return nil, ctx.Err()
					case <-time.After(time.Until(end) - early): // a connection's deadline may be before the context's timer
						return nil, os.ErrDeadlineExceeded
					}
				}
				return answers(ctx, network, addr)
			}
			c, err := Dial(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > up+2*synPatience {
				t.Errorf("a machine that was up after %s was found after %s", up, took)
			}
			_ = c.Close()
			s.work.Wait()
		})
	}
}

func TestDialUntilEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	for name, test := range map[string]struct {
		ctx   func(context.Context) (context.Context, context.CancelFunc)
		cause error
		kind  Kind
		after time.Duration
	}{
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 100*time.Second)
		}, context.DeadlineExceeded, Unreachable, 100 * time.Second},
		"cancel": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(50*time.Second, cancel)
			return ctx, cancel
		}, context.Canceled, Interrupted, 50 * time.Second},
		"its own limit": {context.WithCancel, syscall.ECONNREFUSED, Unreachable, defaultPatience},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var times []time.Duration
				ctx, cancel := test.ctx(t.Context())
				defer cancel()
				_, err := dialUntil(ctx, bubbleConfig(s, 1000, &times))
				e := asKind(t, err, test.kind)
				if !errors.Is(err, test.cause) || !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("error is %v", e)
				}
				if took := time.Since(start); took != test.after {
					t.Errorf("took %s, want %s", took, test.after)
				}
				if !strings.Contains(err.Error(), "attempts") {
					t.Errorf("no count of attempts in %v", err)
				}
			})
		})
	}
}

func TestDialUntilGivesUpOnARefusedLogin(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	wrong := openSSH(t, newEd25519(t))
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		cfg := bubbleConfig(s, 3, &times)
		cfg.PrivateKeys = []string{wrong}
		_, err := dialUntil(t.Context(), cfg)
		wantKind(t, err, AuthFailed)
		if len(times) != 3+maxAuthFailures {
			t.Errorf("%d attempts", len(times))
		}
		s.work.Wait()
	})
}
