// Package journal is a write-ahead log on disk: it records what a run has begun and not yet handed to Terraform, so
// that a later run finds it after a crash.
//
// Each name has a directory, which one process at a time can lock. The operating system unlocks it when that process
// ends in any way: so no running process works on an entry under a name that can be locked. A directory exists as long
// as it has entries or is locked.
//
// A nil *Journal is turned off: it locks nothing and records nothing. Every error is an *Error, except ErrLocked.
package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/gofrs/flock"
)

const (
	// MaxEntrySize is the largest entry that is read, in bytes.
	MaxEntrySize = 64 << 10
	// MaxEntries is how many entries under one name are read.
	MaxEntries = 10_000

	lockFile = "lock"
	runFile  = "run"
	ending   = ".json"
	unsynced = ".new" // an entry that is being written
)

// ErrLocked says that another process, or another part of this one, has locked the name.
var ErrLocked = errors.New("the name is locked")

// Error says that the journal could not be read or written. Then leftovers of a crashed run may not be found; sessions in state are
// not affected.
type Error struct {
	Dir string
	Err error
}

// Error returns the journal's directory and the cause.
func (e *Error) Error() string { return fmt.Sprintf("the rental journal in %s: %v", e.Dir, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Journal is a journal in one directory, which the first TryLock creates.
type Journal struct {
	dir, run string
}

// Open returns the journal in dir, for a run of Terraform, which the function Run names. With dir "" it is turned off: nil.
func Open(dir, run string) *Journal {
	if dir == "" {
		return nil
	}
	return &Journal{dir: dir, run: run}
}

// Dir returns the journal's directory, "" when it is turned off.
func (j *Journal) Dir() string {
	if j == nil {
		return ""
	}
	return j.dir
}

// Run returns the run of Terraform that the journal was opened for, "" when it is turned off.
func (j *Journal) Run() string {
	if j == nil {
		return ""
	}
	return j.run
}

// Knows reports whether there may be entries under the name.
func (j *Journal) Knows(name string) bool {
	if j == nil {
		return false
	}
	if _, err := os.Stat(j.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return true
	}
	dir, err := os.Stat(j.dir)
	return err == nil && !dir.IsDir() // so that TryLock returns what is wrong
}

// Holder returns the run that locked the name last, "" when that isn't known.
func (j *Journal) Holder(name string) string {
	run, _ := os.ReadFile(filepath.Join(j.path(name), runFile))
	return string(run)
}

func (j *Journal) path(name string) string {
	sum := sha256.Sum256([]byte(name)) // names may differ only in case, or contain slashes
	return filepath.Join(j.dir, hex.EncodeToString(sum[:16]))
}

// TryLock locks the name until Unlock, or returns ErrLocked. A journal that is turned off returns a Name that records nothing.
func (j *Journal) TryLock(name string) (*Name, error) {
	if j == nil {
		return &Name{}, nil
	}
	n := &Name{dir: j.path(name), root: j.dir}
	for {
		if err := n.makeDir(); err != nil {
			return nil, n.failed(err)
		}
		n.lock = flock.New(filepath.Join(n.dir, lockFile))
		locked, err := n.lock.TryLock()
		switch {
		case errors.Is(err, fs.ErrNotExist): // Unlock has just removed the directory
			continue
		case err != nil:
			return nil, n.failed(err)
		case !locked:
			return nil, ErrLocked
		}
		if n.inPlace() {
			_ = os.WriteFile(filepath.Join(n.dir, runFile), []byte(j.run), 0o600) // only informs those who wait
			return n, nil
		}
		_ = n.lock.Unlock()
	}
}

// Name is a name that this process has locked. A nil or zero Name records nothing.
type Name struct {
	dir, root string
	lock      *flock.Flock
}

func (n *Name) off() bool { return n == nil || n.dir == "" }

func (n *Name) makeDir() error {
	if err := os.MkdirAll(n.root, 0o700); err != nil {
		return err
	}
	err := os.Mkdir(n.dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil // if it is no directory, locking fails
	}
	syncDir(n.root)
	return err
}

// inPlace reports whether the locked file is still the lock file of the name.
func (n *Name) inPlace() bool {
	locked, err := n.lock.Stat()
	if err != nil {
		return false
	}
	current, err := os.Stat(n.lock.Path())
	return err == nil && os.SameFile(locked, current)
}

// Unlock unlocks the name, and removes its directory if that has no entries. It may be called more than once.
func (n *Name) Unlock() {
	if n == nil || n.lock == nil {
		return
	}
	empty := n.tidy()
	if runtime.GOOS == "windows" { // which removes no open file
		_ = n.lock.Unlock()
	}
	if empty {
		_ = os.Remove(filepath.Join(n.dir, runFile))
		_ = os.Remove(n.lock.Path())
		_ = os.Remove(n.dir)
	}
	_ = n.lock.Unlock()
	n.lock = nil
}

// tidy removes incompletely written entries, and reports whether there is no entry.
func (n *Name) tidy() bool {
	files, err := os.ReadDir(n.dir)
	empty := err == nil
	for _, file := range files {
		switch {
		case strings.HasSuffix(file.Name(), unsynced):
			_ = os.Remove(filepath.Join(n.dir, file.Name()))
		case file.Name() != lockFile && file.Name() != runFile:
			empty = false
		}
	}
	return empty
}

// Entry is what was written under an ID.
type Entry struct {
	ID   string
	data []byte
}

// Decode parses the entry into v.
func (e Entry) Decode(v any) error { return json.Unmarshal(e.data, v) }

// Entries returns the entries under the name, and an error for each that could not be read.
func (n *Name) Entries() (found []Entry, problems []error) {
	if n.off() {
		return nil, nil
	}
	files, err := os.ReadDir(n.dir)
	if err != nil {
		problems = append(problems, n.failed(err)) // files may have been listed before the error
	}
	for _, file := range files {
		id, isEntry := strings.CutSuffix(file.Name(), ending)
		if !isEntry {
			continue
		}
		if len(found)+len(problems) == MaxEntries {
			return found, append(problems, n.failed(fmt.Errorf("%s has more than %d entries", n.dir, MaxEntries)))
		}
		data, err := read(filepath.Join(n.dir, file.Name()))
		if err != nil {
			problems = append(problems, n.failed(err))
			continue
		}
		found = append(found, Entry{ID: id, data: data})
	}
	return found, problems
}

// All returns the entries under all names. It locks no name, so others may be writing or removing entries; it omits what can't be
// read.
func (j *Journal) All() (found []Entry, err error) {
	if j == nil {
		return nil, nil
	}
	names, err := os.ReadDir(j.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Dir: j.dir, Err: err}
	}
	for _, name := range names {
		entries, _ := (&Name{dir: filepath.Join(j.dir, name.Name()), root: j.dir}).Entries()
		found = append(found, entries...)
	}
	return found, nil
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, MaxEntrySize+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > MaxEntrySize:
		return nil, fmt.Errorf("%s is larger than an entry can be", path)
	case !json.Valid(data):
		return nil, fmt.Errorf("%s is not a journal entry. Delete it once nothing remains of what it describes", path)
	}
	return data, nil
}

// Write writes v as the entry with the ID, instead of an earlier one. The ID must be a valid file name. The entry survives a crash of
// the computer.
func (n *Name) Write(id string, v any) error {
	if n.off() {
		return nil
	}
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return n.failed(err)
	}
	path := filepath.Join(n.dir, id)
	err = writeSynced(path+unsynced, data)
	if err == nil {
		err = os.Rename(path+unsynced, path+ending)
	}
	if err != nil {
		_ = os.Remove(path + unsynced)
		return n.failed(err)
	}
	syncDir(n.dir)
	return nil
}

func writeSynced(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncDir syncs the names of files in dir, where the system can sync a directory.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}

// Remove removes the entry with the ID. It is no error if there is none.
func (n *Name) Remove(id string) error {
	if n.off() {
		return nil
	}
	if err := os.Remove(filepath.Join(n.dir, id+ending)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return n.failed(err)
	}
	return nil
}

func (n *Name) failed(err error) error { return &Error{Dir: n.root, Err: err} }
