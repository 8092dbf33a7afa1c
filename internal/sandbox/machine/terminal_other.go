//go:build !linux

package machine

import (
	"errors"
	"os"
)

var errNoTerminal = errors.New("no pseudo-terminals on this system")

func openPTY() (master, slave *os.File, err error) { return nil, nil, errNoTerminal }

func setWindowSize(*os.File, windowSize) error { return errNoTerminal }
