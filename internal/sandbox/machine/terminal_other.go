//go:build !linux

package machine

import (
	"errors"
	"os"
)

func openPTY() (master, slave *os.File, err error) { return nil, nil, errors.ErrUnsupported }

func setWindowSize(*os.File, uint32, uint32) {}
