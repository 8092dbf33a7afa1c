package machine

import (
	"os"

	"golang.org/x/crypto/ssh"
)

// terminal is the pseudo-terminal of a session; nil = none.
type terminal struct {
	name   string // TERM
	master *os.File
	slave  *os.File
}

// openTerminal gives the session a terminal. If that isn't possible, the request is still
// accepted, and the session goes on without.
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
	setWindowSize(master, request.Rows, request.Columns)
	return true
}

// slaves returns the slave's end as a process's three streams. The caller closes it.
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
