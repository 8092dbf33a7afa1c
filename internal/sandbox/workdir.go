package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
)

// workDir is a sandbox's directory for its machines. It is named after the
// process and locked by it, so that a later sandbox can tell that a directory was
// left behind by one that was killed: no such process, and nobody holds the lock.
type workDir struct {
	path string
	lock *os.File
}

var workDirName = regexp.MustCompile(`^shopper-sandbox-(\d+)-`)

const (
	lockName = "lock"
	// longestTemp is how long a directory's name may be for unix sockets below it
	// to have names that the system takes.
	longestTemp = 40
)

// makeWorkDir makes the directory, and removes those of dead sandboxes.
func makeWorkDir() (*workDir, error) {
	parent := os.TempDir()
	if len(parent) > longestTemp {
		parent = "/tmp"
	}
	sweepWorkDirs(parent)
	path, err := os.MkdirTemp(parent, "shopper-sandbox-"+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, fmt.Errorf("the sandbox's directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the sandbox's directory: %w", err), os.RemoveAll(path))
	}
	return &workDir{path: path, lock: lock}, nil
}

// Remove removes the directory.
func (d *workDir) Remove() error {
	return errors.Join(os.RemoveAll(d.path), d.lock.Close())
}

// sweepWorkDirs removes what sandboxes that no longer run left in a directory.
// What can't be removed is somebody else's, and stays.
func sweepWorkDirs(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, entry := range entries {
		match := workDirName.FindStringSubmatch(entry.Name())
		if match == nil || !entry.IsDir() {
			continue
		}
		pid, err := strconv.Atoi(match[1])
		if err != nil || processExists(pid) {
			continue
		}
		path := filepath.Join(parent, entry.Name())
		if abandoned(path) {
			_ = os.RemoveAll(path)
		}
	}
}

// processExists also says yes for a process that may not be signalled.
func processExists(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// abandoned reports whether nobody holds the directory's lock: a process of
// another pid namespace may, whose number means nothing here.
func abandoned(path string) bool {
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR, 0)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	defer lock.Close()
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
