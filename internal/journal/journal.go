// Package journal is a write-ahead log on disk: what a run has begun and not yet
// handed to Terraform, so that a later run finds it after a crash.
//
// Each name has a directory of its own, which one process at a time locks. The
// operating system drops the lock when that process ends, however it ends: an
// entry under a name that can be locked belongs to no run at work. A directory
// lasts as long as it holds entries.
//
// A nil *Journal is one that is turned off: it locks nothing and remembers
// nothing. Every error is an *Error, but for ErrLocked.
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
	// MaxEntrySize is the size in bytes above which an entry isn't read.
	MaxEntrySize = 64 << 10
	// MaxEntries is how many entries of one name are read.
	MaxEntries = 10_000

	lockFile = "lock"
	runFile  = "run"
	ending   = ".json"
	unsynced = ".new" // an entry that is being written
)

// ErrLocked says that another process, or another part of this one, works under
// the name.
var ErrLocked = errors.New("the name is locked")

// Error says that the journal could not be read or written. What is lost is the
// knowledge of a crashed run, never a machine in state.
type Error struct {
	Dir string
	Err error
}

// Error names the journal's directory.
func (e *Error) Error() string { return fmt.Sprintf("the rental journal in %s: %v", e.Dir, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Journal is kept in one directory, which is made at the first lock.
type Journal struct {
	dir, run string
}

// Open returns the journal in dir, used by the run of Terraform that Run names.
// An empty dir turns the journal off.
func Open(dir, run string) *Journal {
	if dir == "" {
		return nil
	}
	return &Journal{dir: dir, run: run}
}

// Dir is where the journal is kept, "" when it is turned off.
func (j *Journal) Dir() string {
	if j == nil {
		return ""
	}
	return j.dir
}

// Run is the run of Terraform that the journal was opened for.
func (j *Journal) Run() string {
	if j == nil {
		return ""
	}
	return j.run
}

// Knows reports whether anything may be written down under the name.
func (j *Journal) Knows(name string) bool {
	if j == nil {
		return false
	}
	if _, err := os.Stat(j.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return true
	}
	dir, err := os.Stat(j.dir)
	return err == nil && !dir.IsDir() // so that TryLock says what is wrong
}

// Holder is the run that locked the name last, "" when that isn't known.
func (j *Journal) Holder(name string) string {
	run, _ := os.ReadFile(filepath.Join(j.path(name), runFile))
	return string(run)
}

func (j *Journal) path(name string) string {
	sum := sha256.Sum256([]byte(name)) // names may differ in case alone, or hold slashes
	return filepath.Join(j.dir, hex.EncodeToString(sum[:16]))
}

// TryLock locks the name until Unlock, or returns ErrLocked. A journal that is
// turned off returns a Name that remembers nothing.
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
		case errors.Is(err, fs.ErrNotExist): // the last holder has just removed the directory
			continue
		case err != nil:
			return nil, n.failed(err)
		case !locked:
			return nil, ErrLocked
		}
		if n.inPlace() {
			_ = os.WriteFile(filepath.Join(n.dir, runFile), []byte(j.run), 0o600) // a courtesy to those who wait
			return n, nil
		}
		_ = n.lock.Unlock()
	}
}

// Name is a name that this process has locked. A nil or zero one remembers nothing.
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
		return nil // if it is no directory, the lock says so
	}
	syncDir(n.root)
	return err
}

// inPlace reports whether the file that is locked is still the name's.
func (n *Name) inPlace() bool {
	locked, err := n.lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(n.lock.Path())
	return err == nil && os.SameFile(locked, there)
}

// Unlock lets others lock the name. It may be called again.
func (n *Name) Unlock() {
	if n == nil || n.lock == nil {
		return
	}
	empty := n.tidy()
	if runtime.GOOS == "windows" { // which removes no open file, be it another's
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

// tidy removes what a crash has left half written, and reports whether there is
// no entry.
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

// Entry is what was written down under an id.
type Entry struct {
	ID   string
	data []byte
}

// Decode reads the entry into v.
func (e Entry) Decode(v any) error { return json.Unmarshal(e.data, v) }

// Entries returns what is written down under the name, and what could not be
// read: one bad file hides no other.
func (n *Name) Entries() (found []Entry, problems []error) {
	if n.off() {
		return nil, nil
	}
	files, err := os.ReadDir(n.dir)
	if err != nil {
		problems = append(problems, n.failed(err)) // what was listed before the error counts
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

// All returns what is written down under every name. It locks none, so that any
// entry may be another's, or gone already; what can't be read is left out.
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

// Write replaces the entry with this id by v, so that it survives a crash of the
// computer too. The id is a file's name.
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

// syncDir makes what was renamed or made in dir last. Not every system can sync a
// directory; files are synced either way.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}

// Remove forgets the entry with this id. Forgetting it again is no error.
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
