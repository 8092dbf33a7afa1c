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

// workDir is a sandbox's directory for its machines. The process's number is part of its
// name, and the process holds its lock. A directory without such a process, and whose
// lock is free, was left behind by a sandbox that was killed.
type workDir struct {
	path string
	lock *os.File
}

var workDirName = regexp.MustCompile(`^shopper-sandbox-(\d+)-`)

const (
	lockName = "lock"
	// longestTemp is how long a directory's name may be so that paths of unix sockets
	// below it are short enough.
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

// sweepWorkDirs removes the directories that killed sandboxes left below parent, as far
// as they can be removed.
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

// processExists reports whether there is such a process, also another user's.
func processExists(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// abandoned reports whether the directory's lock is free. A process of another pid
// namespace may hold it, whose number means nothing here.
func abandoned(path string) bool {
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR, 0)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	defer lock.Close()
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
