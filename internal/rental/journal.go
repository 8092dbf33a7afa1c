package rental

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
)

// Journal is a write-ahead log of rentals: one small file for each, written and
// synced before the request that rents is sent. It proves after a crash that a
// machine found by its mark was rented by us and never handed to Terraform. It
// holds no secret.
//
// While a Create is at work it holds a lock beside its file that the operating
// system drops when the process ends, however it ends: an entry that nobody
// holds and that was not handed over is a leftover.
//
// Whatever goes wrong with it is told and keeps nothing from being rented or
// released: what is lost is the proof, and a machine found by its mark is then a
// conflict.
//
// A nil *Journal is one that is turned off: it remembers nothing.
type Journal struct {
	dir string
}

// ours are the marks of the entries that this process holds: provider aliases
// have a journal each, and are one process.
var ours sync.Map

// maxEntry bounds the size of a journal file that is read, in bytes.
const maxEntry = 64 << 10

// maxEntries bounds how many entries one look at the journal reads.
const maxEntries = 10_000

// maxProblems bounds how many bad files one look at the journal tells of.
const maxProblems = 20

// OpenJournal returns the journal kept in dir, which is made at the first entry.
// An empty dir turns the journal off.
func OpenJournal(dir string) *Journal {
	if dir == "" {
		return nil
	}
	return &Journal{dir: dir}
}

// Dir is where the journal is kept, "" when it is turned off.
func (j *Journal) Dir() string {
	if j == nil {
		return ""
	}
	return j.dir
}

// entryFile is the name of an entry's file, which is its mark's token. Anything
// else in the directory is not ours.
var entryFile = regexp.MustCompile(`^([0-9a-f]{32})\.json$`)

// seen tells the journal that the rental with this mark is in Terraform's state,
// or has ended: it needs to be remembered no longer.
func (j *Journal) seen(m Mark) error {
	if j == nil || m.Token == "" {
		return nil
	}
	if _, err := os.Stat(j.path(m, ".json")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	h, mine, err := j.hold(entry{Mark: m.String()})
	if err != nil || !mine {
		return err
	}
	return h.remove()
}

// entries returns what the journal knows of rentals under this consumer and name
// at this service, and what could not be read: one bad file hides no other.
func (j *Journal) entries(service string, name Mark) (found []entry, problems []error) {
	if j == nil {
		return nil, nil
	}
	files, err := os.ReadDir(j.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		problems = append(problems, j.failed(err)) // what was listed before the error counts
	}
	for _, file := range files {
		match := entryFile.FindStringSubmatch(file.Name())
		if match == nil {
			continue
		}
		if len(found) >= maxEntries {
			return found, append(problems, j.failed(fmt.Errorf("it has more than %d entries of %s", maxEntries, name.Name)))
		}
		e, err := j.read(match[1])
		switch {
		case err != nil:
			if len(problems) < maxProblems {
				problems = append(problems, err)
			}
		case e.Mark != "" && e.Service == service && name.sameName(e.mark()):
			found = append(found, e)
		}
	}
	return found, problems
}

// read returns the entry with this token; an empty one when there is none.
func (j *Journal) read(token string) (entry, error) {
	var e entry
	path := filepath.Join(j.dir, token+".json")
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil // removed between the listing and the reading
	}
	if err != nil {
		return e, j.failed(err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxEntry+1))
	switch {
	case err != nil:
		return e, j.failed(err)
	case len(data) > maxEntry:
		return e, j.failed(fmt.Errorf("%s is larger than an entry can be", path))
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return entry{}, j.failed(fmt.Errorf("%s can't be read (%w). Delete it once no session is left whose consumer_id ends in %s",
			path, err, token))
	}
	if mark, ok := ParseMark(e.Mark); !ok || mark.Token != token {
		return entry{}, j.failed(fmt.Errorf("%s names no rental of its own", path))
	}
	if e.Version != entryVersion {
		return entry{}, j.failed(fmt.Errorf("%s has version %d and was written by another version of the provider", path, e.Version))
	}
	return e, nil
}

// current reads the entry again; it is empty when it has been dealt with.
func (j *Journal) current(e entry) (entry, error) {
	return j.read(e.mark().Token)
}

func (j *Journal) path(m Mark, ending string) string {
	return filepath.Join(j.dir, m.Token+ending)
}

// forget removes the entry's file.
func (j *Journal) forget(m Mark) error {
	if err := os.Remove(j.path(m, ".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return j.failed(err)
	}
	return nil
}

// write replaces the file at once and syncs it and its directory.
func (j *Journal) write(path string, data []byte) error {
	tmp, err := os.CreateTemp(j.dir, ".new-*")
	if err != nil {
		return j.failed(err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already once renamed
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return j.failed(err)
	}
	syncDir(j.dir)
	return nil
}

// syncDir makes a rename last. Not every system can sync a directory; the entry
// itself is synced either way.
func syncDir(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	_ = d.Sync()
	_ = d.Close()
}

func (j *Journal) failed(err error) error {
	return &JournalError{Dir: j.dir, Err: err}
}

// A JournalError says that the journal could not be read or written. Renting
// goes on without it; what is lost is the proof, after a crash, that a machine
// found by its mark is our own.
type JournalError struct {
	Dir string
	Err error
}

func (e *JournalError) Error() string {
	return fmt.Sprintf("the rental journal in %s: %v", e.Dir, e.Err)
}

func (e *JournalError) Unwrap() error { return e.Err }
