package rental

import (
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/gofrs/flock"
)

// entryVersion is the form of the entries that this version writes.
const entryVersion = 1

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
	journal *Journal // nil where nothing is written down
	lock    *flock.Flock
}

// begin writes the entry for an attempt that is about to be made. The error says
// that a crash from here on leaves no trace in the journal: an entry that can't
// be both written and held is not kept at all, since others would take it for a
// leftover.
func (j *Journal) begin(e entry) (*held, error) {
	h := &held{entry: e, journal: j}
	if j == nil {
		return h, nil
	}
	err := os.MkdirAll(j.dir, 0o700) //nolint:gosec // where the configuration says
	if err != nil {
		err = j.failed(err)
	} else {
		err = h.start()
	}
	if err != nil {
		h.journal = nil
	}
	return h, err
}

func (h *held) start() error {
	mine, err := h.acquire()
	if err != nil {
		return err
	}
	if !mine {
		return h.journal.failed(errors.New("somebody else holds a new entry"))
	}
	if err := h.save(); err != nil {
		_ = h.remove()
		return err
	}
	return nil
}

// hold takes over an entry left by a process that ended. It reports false when
// the entry is being worked on.
func (j *Journal) hold(e entry) (*held, bool, error) {
	h := &held{entry: e, journal: j}
	mine, err := h.acquire()
	return h, mine, err
}

func (h *held) acquire() (bool, error) {
	lock := flock.New(h.journal.path(h.mark(), ".lock"))
	mine, err := lock.TryLock()
	if err != nil {
		return false, h.journal.failed(err)
	}
	if mine {
		h.lock = lock
		ours.Store(h.Mark, true)
	}
	return mine, nil
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

// release lets other calls see the entry as it is now. It may be called again.
func (h *held) release() {
	if h.lock != nil {
		ours.Delete(h.Mark)
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
	if err == nil {
		h.discardLock()
	}
	h.release()
	return err
}

// discardLock removes the lock's file, where the entry is gone. One that stays
// behind is harmless: a lock means nothing without an entry.
func (h *held) discardLock() {
	h.release() // some systems remove no open file
	_ = os.Remove(h.journal.path(h.mark(), ".lock"))
}
