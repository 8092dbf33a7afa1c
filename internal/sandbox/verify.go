package sandbox

import (
	"cmp"
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// How the service verifies that SSH answers.
const (
	verifyTimeout   = 8 * time.Minute
	firstPoll       = 15 * time.Second
	slowestPoll     = time.Minute
	stabilityPoll   = 5 * time.Second // between two logins, where a cloud takes two
	authFailuresEnd = 3
	loginTimeout    = 10 * time.Second // real time: it is a real connection
)

// verify tries to log in until that works or times out. With auto_retry it then rents a
// replacement for a session that failed.
func (s *service) verify(row session, key ssh.Signer, req createSession) {
	s.verifySSH(row, key)
	if after, err := s.sessions.Get(row.ID); err == nil && s.life.Err() == nil {
		s.retryLater(after, req)
	}
}

func (s *service) verifySSH(row session, key ssh.Signer) {
	cloud, _ := facts.FindCloud(row.Provider)
	if s.clock.Sleep(s.life, cloud.FirstLogin.Duration()) != nil {
		return
	}
	v := &verification{id: row.ID, key: key, needed: cloud.Logins, pause: s.interval}
	deadline := s.clock.Elapsed() + row.sshTimeout
	for {
		poll := s.clock.Elapsed() + v.pause
		if s.clock.SleepUntil(s.life, min(poll, deadline)) != nil {
			return
		}
		if poll >= deadline {
			s.notVerified(row.ID)
			return
		}
		over, spent := s.poll(v)
		if over {
			return
		}
		deadline += spent
		s.sessions.Credit(row.ID, spent)
	}
}

// verification is the state of one session's logins.
type verification struct {
	id       string
	key      ssh.Signer
	needed   int // logins in a row
	pause    time.Duration
	logins   int
	failed   bool // the last login failed
	refusals int  // in a row
}

// poll tries to log in once. It returns whether the verification is over, and the
// service time that the login took.
func (s *service) poll(v *verification) (over bool, spent time.Duration) {
	row, err := s.sessions.Get(v.id)
	if err != nil || row.terminal() {
		return true, 0
	}
	if v.failed && !s.cloud.Running(row.providerID) {
		s.failOffer(row, "instance_vanished: no longer exists on provider", "instance_vanished", "instance not found during SSH verification")
		return true, 0
	}
	if row.Host == "" {
		row = s.askAddress(row)
	}
	ctx, cancel := context.WithTimeout(s.life, loginTimeout)
	began := time.Now()
	err = s.login(ctx, net.JoinHostPort(row.Host, strconv.Itoa(row.Port)), row.User, v.key)
	cancel()
	spent = s.clock.Spent(began)
	return s.judge(v, row, err), spent
}

// sshPort is a session's port until its cloud has returned the address.
const sshPort = 22

// askAddress gets the address of a session's machine from its cloud, and stores it.
func (s *service) askAddress(row session) session {
	inst := s.cloud.instance(row.providerID)
	if inst == nil {
		return row
	}
	row.Host, row.Port = inst.host.Host(), inst.host.Port()
	s.sessions.Update(row)
	return row
}

// judge handles the result of a login.
func (s *service) judge(v *verification, row session, err error) (over bool) {
	v.failed = err != nil
	if err == nil {
		v.logins++
		if v.pause = stabilityPoll; v.logins < v.needed {
			return false
		}
		row.Status, row.ran = statusRunning, time.Now()
		s.sessions.Update(row)
		return true
	}
	v.logins = 0
	if v.pause = min(v.pause*3/2, slowestPoll); !strings.Contains(err.Error(), "unable to authenticate") {
		v.refusals = 0
		return false
	}
	if v.refusals++; v.refusals < authFailuresEnd {
		return false
	}
	row.FailedOffers = cmp.Or(row.FailedOffers, row.offer)
	s.failOffer(row, "permanent SSH error: auth_failed", "auth_failed", "permanent SSH error: auth_failed")
	return true
}

func (s *service) notVerified(id string) {
	row, err := s.sessions.Get(id)
	if err != nil || row.terminal() {
		return
	}
	const reason = "SSH verification timeout"
	s.failOffer(row, reason, "ssh_timeout", reason)
}

// failOffer fails a session and counts that as a failure of its offer.
func (s *service) failOffer(row session, reason, kind, detail string) {
	s.fail(row, reason)
	s.health.Record(row.offer, row.Provider, row.GPUType, kind, detail)
	s.inventory.Evict(row.offer)
}

// fail ends a session's machine, if it has one, and marks the session failed.
func (s *service) fail(row session, reason string) {
	if row.providerID != "" {
		if err := s.cloud.Destroy(s.life, row.providerID, reason); err != nil {
			s.log.Info("destroying the machine of a failed session", "session", row.ID, "error", err)
		}
	}
	row.Status, row.Error, row.stopped = statusFailed, reason, s.clock.Now()
	s.sessions.Update(row)
	s.costs.Final(row)
}

// loginFunc logs in to a machine once.
type loginFunc func(ctx context.Context, addr, user string, key ssh.Signer) error

// sshLogin logs in once, as the service does: it doesn't know the host key.
func sshLogin(ctx context.Context, addr, user string, key ssh.Signer) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	client, channels, requests, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}, // a machine makes its RSA key, slowly, for whoever asks for it
		HostKeyCallback:   ssh.InsecureIgnoreHostKey(),  //nolint:gosec // the real service doesn't know the key either
	})
	if err != nil {
		return err
	}
	return ssh.NewClient(client, channels, requests).Close()
}
