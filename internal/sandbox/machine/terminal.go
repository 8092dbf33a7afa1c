package machine

import (
	"os"

	"golang.org/x/crypto/ssh"
)

// terminal is the pseudo-terminal of a session. A nil one is none.
type terminal struct {
	name   string // TERM
	master *os.File
	slave  *os.File
}

// windowSize is what a client's window measures, in characters and pixels.
type windowSize struct {
	Columns, Rows, Width, Height uint32
}

// openTerminal gives the session a terminal. Where that isn't possible the request
// is accepted all the same, and the session goes on without.
func (s *session) openTerminal(payload []byte) bool {
	var request struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if ssh.Unmarshal(payload, &request) != nil || s.started || s.tty != nil {
		return false
	}
	master, slave, err := openPTY()
	if err != nil {
		return true
	}
	s.tty = &terminal{name: request.Term, master: master, slave: slave}
	_ = setWindowSize(master, windowSize{request.Columns, request.Rows, request.Width, request.Height})
	return true
}

func (t *terminal) resize(payload []byte) bool {
	var size windowSize
	if t == nil || ssh.Unmarshal(payload, &size) != nil {
		return false
	}
	return setWindowSize(t.master, size) == nil
}

// slaves hands the slave's end over as a process's three streams.
func (t *terminal) slaves() ([]*os.File, error) {
	slave := t.slave
	t.slave = nil
	return []*os.File{slave, slave, slave}, nil
}

func (t *terminal) close() {
	if t == nil {
		return
	}
	_ = t.master.Close()
	if t.slave != nil {
		_ = t.slave.Close()
	}
}
