package rental

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
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
// A nil *Journal is one that is turned off: it remembers nothing.
type Journal struct {
	dir string
}

// maxEntry bounds the size of a journal file that is read, in bytes.
const maxEntry = 64 << 10

// maxEntries bounds how many entries one look at the journal reads.
const maxEntries = 10_000

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

// entry is what the journal knows of one rental.
type entry struct {
	Version int    `json:"version"`
	Mark    string `json:"mark"`
	Service string `json:"service"` // the service's URL, without credentials
	OfferID string `json:"offer_id"`
	// Asked is when the request that rents was sent.
	Asked time.Time `json:"asked"`
	// SessionID is known once the service has answered.
	SessionID string `json:"session_id,omitempty"`
	// Doubt is true while the request's outcome is not known.
	Doubt bool `json:"doubt,omitempty"`
	// HandedOver is true once Create has returned the rental to Terraform.
	HandedOver bool `json:"handed_over,omitempty"`
}

func (e entry) mark() Mark {
	mark, _ := ParseMark(e.Mark) // checked when the entry was read
	return mark
}

// held is an entry that this process works on: nobody else treats it as left
// over until release is called or the process ends.
type held struct {
	entry
	journal *Journal
	lock    *flock.Flock
}

// begin writes the entry for an attempt that is about to be made. The error says
// that a crash from here on would leave no trace in the journal.
func (j *Journal) begin(e entry) (*held, error) {
	h := &held{entry: e, journal: j}
	if j == nil {
		return h, nil
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return h, j.failed(err)
	}
	locked, err := h.acquire()
	if err != nil {
		return h, err
	}
	if !locked {
		return h, j.failed(fmt.Errorf("another process holds the new entry %s", h.mark().Token))
	}
	return h, h.save()
}

// hold takes over an entry left by a process that ended. It reports false when
// the entry is being worked on.
func (j *Journal) hold(e entry) (*held, bool, error) {
	h := &held{entry: e, journal: j}
	locked, err := h.acquire()
	return h, locked, err
}

func (h *held) acquire() (bool, error) {
	lock := flock.New(h.journal.path(h.mark(), ".lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return false, h.journal.failed(err)
	}
	if locked {
		h.lock = lock
	}
	return locked, nil
}

// save writes the entry so that it survives a crash of the machine as well.
func (h *held) save() error {
	if h.journal == nil {
		return nil
	}
	data, err := json.MarshalIndent(h.entry, "", "  ")
	if err != nil {
		return h.journal.failed(err)
	}
	return h.journal.write(h.journal.path(h.mark(), ".json"), data)
}

// release lets other calls see the entry as it is now.
func (h *held) release() {
	if h.lock != nil {
		_ = h.lock.Unlock()
		h.lock = nil
	}
}

// remove forgets the entry: its rental is in state, or proved to have ended.
func (h *held) remove() error {
	if h.journal == nil {
		return nil
	}
	err := h.journal.forget(h.mark())
	h.release()
	_ = os.Remove(h.journal.path(h.mark(), ".lock"))
	return err
}

func (j *Journal) forget(m Mark) error {
	if j == nil || m.Token == "" {
		return nil
	}
	if err := os.Remove(j.path(m, ".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return j.failed(err)
	}
	return nil
}

// seen tells the journal that the rental with this mark is in Terraform's state,
// or has ended: it needs to be remembered no longer.
func (j *Journal) seen(m Mark) error {
	if j == nil || m.Token == "" {
		return nil
	}
	if _, err := os.Stat(j.path(m, ".json")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	h, locked, err := j.hold(entry{Mark: m.String()})
	if err != nil || !locked {
		return err
	}
	return h.remove()
}

// entries returns what the journal knows of rentals under this consumer and name
// at this service.
func (j *Journal) entries(service string, name Mark) ([]entry, error) {
	if j == nil {
		return nil, nil
	}
	files, err := os.ReadDir(j.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, j.failed(err)
	}
	var found []entry
	for _, file := range files {
		if len(found) >= maxEntries {
			break
		}
		if !strings.HasSuffix(file.Name(), ".json") {
			continue
		}
		e, err := j.read(file.Name())
		if err != nil {
			return nil, err
		}
		if e.Mark != "" && e.Service == service && name.sameName(e.mark()) {
			found = append(found, e)
		}
	}
	return found, nil
}

func (j *Journal) read(name string) (entry, error) {
	var e entry
	path := filepath.Join(j.dir, name)
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return e, nil // removed between the listing and the reading
		}
		return e, j.failed(err)
	}
	if info.Size() > maxEntry {
		return e, j.failed(fmt.Errorf("%s is larger than a journal entry can be", path))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return e, nil
		}
		return e, j.failed(err)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, j.failed(fmt.Errorf("%s can't be read: %w", path, err))
	}
	if _, ok := ParseMark(e.Mark); !ok {
		return e, j.failed(fmt.Errorf("%s names no rental", path))
	}
	return e, nil
}

// current reads the entry again.
func (j *Journal) current(e entry) (entry, error) {
	return j.read(e.mark().Token + ".json")
}

func (j *Journal) path(m Mark, ending string) string {
	return filepath.Join(j.dir, m.Token+ending)
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
