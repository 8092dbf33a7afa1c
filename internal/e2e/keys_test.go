package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// pair is a key pair of a user's.
type pair struct {
	private, public string
	file            string // of the private key
}

// newPair makes a key pair in the stack's directory.
func (s *stack) newPair(t *testing.T, name string) pair {
	t.Helper()
	signer, private := testkit.SSHKey(t)
	p := pair{
		private: private, public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))),
		file: filepath.Join(s.dir, name),
	}
	if err := os.WriteFile(p.file, []byte(p.private), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// logsIn reports whether the machine of the session in state lets a key in.
func (s *stack) logsIn(t *testing.T, session, private string) bool {
	t.Helper()
	at, ok := s.attributes(t, session)["ssh"].(map[string]any)
	if !ok {
		t.Fatalf("%s has no ssh", session)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	machine, err := host.Dial(ctx, host.Config{
		Host: at["host"].(string), Port: int(at["port"].(float64)), User: at["user"].(string), HostKey: at["host_key"].(string),
		PrivateKeys: []string{private},
	})
	if err != nil {
		if host.KindOf(err) != host.AuthFailed {
			t.Fatal(err)
		}
		return false
	}
	if err := machine.Close(); err != nil {
		t.Error(err)
	}
	return true
}

// oneTimeKey is the key in state, "" for none.
func (s *stack) oneTimeKey(t *testing.T, session string) string {
	t.Helper()
	at, _ := s.attributes(t, session)["ssh"].(map[string]any)
	key, _ := at["private_key"].(string)
	return key
}

func keysArguments(retain bool, keys ...string) []string {
	var quoted []string
	for _, key := range keys {
		quoted = append(quoted, strings.ReplaceAll(fmt.Sprintf("%q", key), "${", "$${"))
	}
	arguments := []string{"authorized_keys = [" + strings.Join(quoted, ", ") + "]"}
	if !retain {
		arguments = append(arguments, "retain_private_key = false")
	}
	return arguments
}

// The user's own keys: installed, rotated in place, one listed twice and one with
// a comment that a shell would like to run; the one-time key gone from state and
// from the machine.
func TestE2EKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	own, other := s.newPair(t, "own"), s.newPair(t, "other")
	s.settings = fmt.Sprintf("ssh = { private_key = file(%q) }", own.file)
	planted := filepath.Join(w.dir, "planted")
	hostile := own.public + fmt.Sprintf(" $(touch %[1]s) '$(touch %[1]s)' `touch %[1]s`; touch %[1]s", planted)

	s.write(t, session("a", keysArguments(true, hostile, own.public+" again")...))
	s.apply(t)
	id := w.billing(t, "a")
	oneTime := s.oneTimeKey(t, "a")
	if oneTime == "" || !s.logsIn(t, "a", oneTime) || !s.logsIn(t, "a", own.private) {
		t.Error("both keys should log in")
	}
	installed, err := os.ReadFile(filepath.Join(w.roots(t)[0].Home(), ".ssh", "authorized_keys"))
	if err != nil || !strings.Contains(string(installed), hostile) {
		t.Errorf("the comment is not on the machine as it was given: %s, %v", installed, err)
	}
	if _, err := os.Stat(planted); err == nil {
		t.Error("a shell has run the comment")
	}
	s.unchanged(t)

	s.write(t, session("a", keysArguments(false, own.public)...))
	says(t, s.apply(t), "1 changed, 0 destroyed")
	if key := s.oneTimeKey(t, "a"); key != "" || s.logsIn(t, "a", oneTime) || !s.logsIn(t, "a", own.private) {
		t.Errorf("only the own key should log in, and state should hold none (%d bytes)", len(key))
	}
	if data, err := os.ReadFile(s.stateFile()); err != nil || strings.Contains(string(data), "PRIVATE KEY") {
		t.Errorf("state holds a private key (%v)", err)
	}
	s.unchanged(t)

	s.write(t, session("a", keysArguments(false, own.public+" renamed", other.public)...))
	s.apply(t)
	if !s.logsIn(t, "a", own.private) || !s.logsIn(t, "a", other.private) {
		t.Error("both of the user's keys should log in")
	}
	s.settings = fmt.Sprintf("ssh = { private_key = file(%q) }", other.file)
	s.write(t, session("a", keysArguments(false, other.public)...))
	s.apply(t)
	if s.logsIn(t, "a", own.private) || !s.logsIn(t, "a", other.private) {
		t.Error("only the other key should log in")
	}
	s.unchanged(t)
	if w.billing(t, "a") != id {
		t.Error("the machine was replaced")
	}
	s.destroy(t)
	w.accounted(t, []*stack{s})
}

// The one-time key is kept out of state from the start; with a credential that
// doesn't log in it stays, with a warning, and every apply tries again.
func TestE2EKeysRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	own, wrong := s.newPair(t, "own"), s.newPair(t, "wrong")
	config := session("a", keysArguments(false, own.public)...)
	s.settings = fmt.Sprintf("ssh = { private_key = file(%q) }", wrong.file)
	s.write(t, config)
	says(t, s.apply(t), "Warning: Machine is rented, its keys are not as configured: a", "one-time key stays on the machine and in state", "next apply")
	oneTime := s.oneTimeKey(t, "a")
	if oneTime == "" || !s.logsIn(t, "a", oneTime) || !s.logsIn(t, "a", own.private) {
		t.Error("both keys should log in")
	}
	says(t, s.must(t, 2, planArgs...), "0 to add, 1 to change, 0 to destroy")
	says(t, s.apply(t), "Warning: Machine is rented, its keys are not as configured: a")
	s.settings = fmt.Sprintf("ssh = { private_key = file(%q) }", own.file)
	s.write(t, config)
	says(t, s.apply(t), "1 changed")
	if key := s.oneTimeKey(t, "a"); key != "" || s.logsIn(t, "a", oneTime) {
		t.Error("the one-time key should be gone")
	}
	s.unchanged(t)
	s.destroy(t)
	w.accounted(t, []*stack{s})

	s.apply(t)
	if key := s.oneTimeKey(t, "a"); key != "" || !s.logsIn(t, "a", own.private) {
		t.Error("the one-time key should never have been in state")
	}
	s.unchanged(t)
	s.destroy(t)
	w.accounted(t, []*stack{s})
}
