package rental

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
)

// entryVersion is the format version of entries.
const entryVersion = 2

// entry is the journal's record of one rental, whose ID is the token of the mark. It contains no secret. An entry that was not handed
// over, and whose name is not locked, is left over from a run that ended before Terraform recorded the rental.
type entry struct {
	Version int    `json:"version"`
	Mark    string `json:"mark"`
	Service string `json:"service"` // the service's URL, without credentials
	// Computer is the name of the computer that wrote the entry: locks may not work between computers that mount the directory.
	Computer string `json:"computer"`
	// Run is the run of Terraform that rented it; see journal.Run.
	Run     string `json:"run"`
	OfferID string `json:"offer_id"`
	// Asked is when the request that rents was sent.
	Asked time.Time `json:"asked"`
	// SessionID is known once the service has answered.
	SessionID string `json:"session_id,omitempty"`
	// HandedOver is true once Create has returned the rental to Terraform.
	HandedOver bool `json:"handed_over,omitempty"`
	// InState is true once a refresh has seen the rental in state.
	InState bool `json:"in_state,omitempty"`

	name *journal.Name // nil where nothing is written
}

func (e *entry) mark() Mark {
	mark, _ := ParseMark(e.Mark) // checked when the entry was read
	return mark
}

func (e *entry) save() error   { return e.name.Write(e.mark().Token, e) }
func (e *entry) remove() error { return e.name.Remove(e.mark().Token) }

// key is the journal's name for the name of a mark at this service.
func (r *Renter) key(mark Mark) string {
	return fmt.Sprintf("%s/%s at %s", mark.Consumer, mark.Name, r.service.URL())
}

// entries reads the entries under a locked name.
func (r *Renter) entries(name *journal.Name) (found []*entry, problems []error) {
	files, problems := name.Entries()
	for _, file := range files {
		e, err := decode(file)
		if err != nil {
			problems = append(problems, &journal.Error{Dir: r.journal.Dir(), Err: fmt.Errorf("the entry %s: %w", file.ID, err)})
			continue
		}
		e.name = name
		found = append(found, e)
	}
	return found, problems
}

func decode(file journal.Entry) (*entry, error) {
	e := &entry{}
	err := file.Decode(e)
	mark, marked := ParseMark(e.Mark)
	switch {
	case err == nil && e.Version != entryVersion:
		err = fmt.Errorf("its format version is %d, from another version of the provider", e.Version)
	case err == nil && (!marked || mark.Token != file.ID):
		err = fmt.Errorf("its mark is not that of its rental")
	}
	return e, err
}

// madeOf reads the entries under all names that are made of the prefix, by their marks. The names may be locked by others.
func (r *Renter) madeOf(prefix string) (map[string]*entry, error) {
	files, err := r.journal.All()
	found := map[string]*entry{}
	for _, file := range files {
		e, err := decode(file)
		if mark := e.mark(); err == nil && e.Service == r.service.URL() && r.isMadeOf(prefix, mark) {
			found[e.Mark] = e
		}
	}
	return found, err
}

func (r *Renter) isMadeOf(prefix string, mark Mark) bool {
	return mark.Consumer == r.consumer && MadeOf(prefix, mark.Name)
}

// keys returns the journal's names for those of names that may have entries. Of the names made of a prefix it returns those with
// an entry that matters: locking the others could prevent a concurrent Seen.
func (r *Renter) keys(names Names, matters func(*entry) bool) ([]string, error) {
	var keys []string
	if key := r.key(r.Mark(names.Name)); names.Name != "" && r.journal.Knows(key) {
		keys = append(keys, key)
	}
	if names.Prefix == "" {
		return keys, nil
	}
	entries, err := r.madeOf(names.Prefix)
	for _, e := range entries {
		if key := r.key(e.mark()); matters(e) && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys, err
}

// Seen records in the journal that the rental is, or was, in Terraform's state: its entry is removed. With the prefix of which its
// name was made, an entry remains, which distinguishes the session from those in no state.
func (r *Renter) Seen(consumerID, prefix string) error {
	mark, ok := ParseMark(consumerID)
	if !ok {
		return nil
	}
	r.inState.Store(mark.String(), true) // even if the journal can't be written
	if prefix == "" && !r.journal.Knows(r.key(mark)) {
		return nil
	}
	name, err := r.journal.TryLock(r.key(mark))
	if err != nil {
		return ignoreLocked(err) // the run that works under the name leaves the entry to a later call
	}
	defer name.Unlock()
	if prefix == "" {
		return name.Remove(mark.Token)
	}
	return (&entry{
		Version: entryVersion, Mark: mark.String(), Service: r.service.URL(), Computer: r.computer, Run: r.journal.Run(),
		HandedOver: true, InState: true, name: name,
	}).save()
}

// Leftovers describes what is left over under the names, which the next Rent, Settle or Release of a name releases. It releases
// nothing, and makes no request where the journal has no entry. With an error, which is about the journal alone, the result
// may be incomplete.
func (r *Renter) Leftovers(ctx context.Context, names Names) ([]string, error) {
	keys, err := r.keys(names, r.isLeftover)
	problems := []error{err}
	var found []string
	for _, key := range keys {
		left, err := r.leftUnder(ctx, key)
		found, problems = append(found, left...), append(problems, err)
	}
	return found, errors.Join(problems...)
}

func (r *Renter) leftUnder(ctx context.Context, key string) (found []string, err error) {
	locked, err := r.journal.TryLock(key)
	if err != nil {
		return nil, ignoreLocked(err) // what another run is renting is no leftover
	}
	defer locked.Unlock()
	entries, problems := r.entries(locked)
	for _, e := range entries {
		if !r.isLeftover(e) {
			continue
		}
		left, over := r.leftOf(ctx, e)
		found = append(found, left...)
		if over {
			problems = append(problems, e.remove())
		}
	}
	return found, errors.Join(problems...)
}

// leftOf describes what is left of an entry's rental, and reports whether it is over: nothing is left, and the request that rents can
// no longer create anything.
func (r *Renter) leftOf(ctx context.Context, e *entry) (left []string, over bool) {
	d := r.doubtOf(e)
	late := !time.Now().Before(d.until) // before the sessions are listed
	sessions, err := r.listOf(ctx, d)
	if err != nil {
		return []string{"a session with the mark " + e.Mark}, false
	}
	for _, s := range sessions {
		if !ended(s) {
			left = append(left, "session "+s.ID)
		}
	}
	return left, late && len(left) == 0
}

// doubtOf returns the doubt about the rental of an entry that another run left. The computer's clock may have been set since the
// entry was written, hence the margin of clockDoubt.
func (r *Renter) doubtOf(e *entry) *doubt {
	d := &doubt{mark: e.Mark, entry: e, until: time.Now(), lost: e.SessionID == ""}
	if d.lost {
		d.until = d.until.Add(r.askLimit - max(time.Since(e.Asked)-clockDoubt, 0))
	}
	return d
}

// isLeftover reports whether an entry whose name this call has locked proves that its rental was never handed to Terraform.
func (r *Renter) isLeftover(e *entry) bool {
	_, inState := r.inState.Load(e.Mark)
	return !inState && !e.HandedOver && e.Computer == r.computer
}

// isUnseen reports whether an entry is a leftover, or was handed over by an earlier run and not seen in state since: then it can be
// removed once its rental has ended.
func (r *Renter) isUnseen(e *entry) bool {
	return r.isLeftover(e) || !e.InState && e.Run != r.journal.Run()
}

func ignoreLocked(err error) error {
	if errors.Is(err, journal.ErrLocked) {
		return nil
	}
	return err
}
