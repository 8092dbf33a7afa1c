package rental

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// fake is a rental service in memory, with the life of sessions and the traps of
// the real one, and a ledger of what its clouds really bill. It is made for
// virtual time: its waits are as long as the real ones.
type fake struct {
	url  string
	hold time.Duration // how long a cloud keeps a request that rents
	boot time.Duration
	// shows is when, after the cloud's answer, a machine's address becomes known.
	shows time.Duration
	// unchecked is a service whose periodic check doesn't run.
	unchecked bool
	// truthful is a service that calls a failed session stopped only once its machine
	// is gone. The real one asks the cloud once and believes it: a lie that nobody
	// can see.
	truthful bool

	mu      sync.Mutex
	offers  []shopper.Offer
	rows    []*row // oldest first
	made    int    // rows ever
	byID    map[string]*row
	clouds  []*billed
	posts   map[string]int // by mark
	calls   map[string]int // by operation
	faults  map[string]map[int]verdict
	unused  map[string]bool // faults that have not struck, by operation and number
	random  func(op string) verdict
	boots   []lot // of the machines still to be rented, in order
	proved  map[string]bool
	extends map[string]int
	most    map[string]int // machines billing at once, by consumer and name
	locks   map[string]chan struct{}
}

// row is a session as the service has it, and the id that it keeps to itself.
type row struct {
	shopper.Session
	offer, machineID string
}

// billed is a machine as its cloud bills it.
type billed struct {
	id, session, mark string
	price             float64
	rented, released  time.Time
	undead            int // how often a request to destroy it comes to nothing; -1 = always
}

func (m *billed) billing() bool { return m.released.IsZero() }

// lot is what becomes of one request to a cloud.
type lot struct {
	refuse  string // "stale", "disk" or the cloud's words
	never   bool   // never boots
	dies    string // fails after boot with this reason
	vanish  bool   // the service forgets the session
	stopped bool   // somebody else destroys it while it boots
	factor  float64
	undead  int
	hold    time.Duration
}

// verdict is what becomes of one request to the service.
type verdict struct {
	before error         // nothing takes effect
	after  error         // everything does
	early  error         // comes while the request is still at work
	delay  time.Duration // before it takes effect
	claim  bool          // a DELETE that says yes and does nothing
	hangUp time.Duration // the client's connection breaks after so long
	answer func(shopper.Created) (shopper.Created, error)
	crash  bool // the caller dies when the request has been sent
}

func newFake() *fake {
	f := &fake{
		url: "http://fake", hold: 2 * time.Second, boot: 20 * time.Second, shows: 5 * time.Second,
		unused: map[string]bool{}, byID: map[string]*row{}, posts: map[string]int{}, calls: map[string]int{}, faults: map[string]map[int]verdict{},
		proved: map[string]bool{}, extends: map[string]int{}, most: map[string]int{}, locks: map[string]chan struct{}{},
	}
	for i := range 40 {
		f.offers = append(f.offers, shopper.Offer{
			ID: fmt.Sprintf("vastai-%02d", i), Cloud: vastAI, GPUType: "RTX 4090", GPUCount: 1, VRAMGB: 24,
			PricePerHour: 0.40 + float64(i)/100, Reliability: 0.99, CUDAVersion: 13, Available: true,
		})
	}
	return f
}

// fault sets what becomes of the nth request of an operation from now on; 0 is
// every one.
func (f *fake) fault(op string, n int, v verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.faults[op] == nil {
		f.faults[op] = map[int]verdict{}
	}
	if n > 0 {
		n += f.calls[op]
	}
	f.faults[op][n] = v
	f.unused[fmt.Sprint(op, " ", n)] = true
}

// allStruck checks that a test saw the faults that it set, and used up its lots.
func (f *fake) allStruck(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range slices.Sorted(maps.Keys(f.unused)) {
		t.Errorf("the fault %s never struck", fault)
	}
	if f.random == nil && len(f.boots) > 0 {
		t.Errorf("%d machines that were to be rented were not", len(f.boots))
	}
}

func (f *fake) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults, f.random, f.boots = map[string]map[int]verdict{}, nil, nil
}

func (f *fake) strike(ctx context.Context, op string) (verdict, error) {
	f.mu.Lock()
	f.calls[op]++
	nth := f.calls[op]
	v, ok := f.faults[op][nth]
	if !ok {
		nth, v = 0, f.faults[op][0]
	}
	delete(f.unused, fmt.Sprint(op, " ", nth))
	if f.random != nil {
		v = f.random(op)
	}
	f.mu.Unlock()
	if v.crash && op != "create" {
		die()
	}
	if err := nap(ctx, v.delay); err != nil {
		return v, lost(op, err)
	}
	return v, v.before
}

func nap(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The errors that the client makes of what can go wrong.

func refusal(status int, kind, text string) *shopper.Error {
	return &shopper.Error{Op: "asking", Method: "X", URL: "http://fake", Status: status, Type: kind, Message: text, RequestID: "r"}
}

func notFound() error { return refusal(404, "", "record not found") }

func lost(op string, err error) *shopper.Error {
	return &shopper.Error{Op: op, URL: "http://fake", Err: err}
}

var errReset = errors.New("connection reset by peer")

func ambiguous(err error) error { return &shopper.AmbiguousError{Err: err} }

func lostAnswer() error { return ambiguous(lost("creating", errReset)) }

func foreign(status int) *shopper.Error {
	e := refusal(status, "", "")
	e.Foreign, e.RequestID = true, ""
	return e
}

func unreachable() error { return lost("asking", errReset) }

func (f *fake) URL() string { return f.url }

func (f *fake) Ready(ctx context.Context) (bool, error) {
	v, err := f.strike(ctx, "ready")
	return v.after == nil, err
}

func (f *fake) Offers(ctx context.Context, cloud string) ([]shopper.Offer, error) {
	if _, err := f.strike(ctx, "offers"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.offers), func(o shopper.Offer) bool { return cloud != "" && o.Cloud != cloud }), nil
}

func (f *fake) Offer(ctx context.Context, id string) (shopper.Offer, error) {
	if _, err := f.strike(ctx, "offer"); err != nil {
		return shopper.Offer{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.offers {
		if o.ID == id {
			return o, nil
		}
	}
	return shopper.Offer{}, notFound()
}

// CreateSession goes on at the service whatever becomes of its answer.
func (f *fake) CreateSession(ctx context.Context, req shopper.CreateSession) (shopper.Created, error) {
	f.mu.Lock()
	f.posts[req.ConsumerID]++
	f.mu.Unlock()
	v, err := f.strike(ctx, "create")
	if err != nil {
		return shopper.Created{}, err
	}
	type result struct {
		created shopper.Created
		err     error
	}
	done := make(chan result, 1)
	go func() {
		created, err := f.rent(req)
		done <- result{created, err}
	}()
	if v.crash {
		die()
	}
	if v.early != nil {
		return shopper.Created{}, errors.Join(nap(ctx, 500*time.Millisecond), v.early)
	}
	r := <-done
	switch {
	case v.after != nil:
		return shopper.Created{}, v.after
	case v.answer != nil && r.err == nil:
		return v.answer(r.created)
	}
	return r.created, r.err
}

func (f *fake) Session(ctx context.Context, id string) (shopper.Session, error) {
	if err := shopper.ValidateID(id); err != nil {
		return shopper.Session{}, &shopper.Error{Err: err} // as the client does, which asks nobody
	}
	v, err := f.strike(ctx, "get")
	if err != nil {
		return shopper.Session{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.byID[id]
	if v.after != nil {
		return shopper.Session{}, v.after
	}
	if !ok {
		f.proved[id] = true
		return shopper.Session{}, notFound()
	}
	if r.Status == shopper.Stopped || r.Status == shopper.Failed && r.SSHUser == "" {
		f.proved[id] = true
	}
	return r.Session, nil
}

func (f *fake) Sessions(ctx context.Context, filter shopper.SessionFilter) ([]shopper.Session, error) {
	v, err := f.strike(ctx, "list")
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if v.after != nil {
		return nil, v.after
	}
	var list []shopper.Session
	for _, r := range slices.Backward(f.rows) {
		if (filter.ConsumerID == "" || filter.ConsumerID == r.ConsumerID) && (filter.Status == "" || filter.Status == r.Status) {
			list = append(list, r.Session)
			if ended(r.Session) {
				f.proved[r.ID] = true
			}
		}
	}
	return list, nil
}

func (f *fake) Extend(ctx context.Context, id string, hours int) (time.Time, error) {
	v, err := f.strike(ctx, "extend")
	if err != nil {
		return time.Time{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.extends[id]++
	r, ok := f.byID[id]
	switch {
	case !ok:
		return time.Time{}, notFound()
	case r.Status.Terminal() || r.Status == shopper.Stopping:
		return time.Time{}, refusal(409, "", "session is in terminal state")
	case time.Since(r.CreatedAt)+time.Duration(hours)*time.Hour > 12*time.Hour:
		return time.Time{}, refusal(400, "", "extension would exceed 12-hour hard max")
	}
	r.ReservationHours += hours
	r.ExpiresAt = r.ExpiresAt.Add(time.Duration(hours) * time.Hour)
	return r.ExpiresAt, v.after
}

func (f *fake) Delete(ctx context.Context, id string) error {
	v, err := f.strike(ctx, "delete")
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.proved[id] = false
	f.mu.Unlock()
	if v.claim {
		return nil
	}
	if v.hangUp > 0 {
		limited, cancel := context.WithTimeout(ctx, v.hangUp)
		defer cancel()
		ctx = limited
	}
	if err := f.destroy(ctx, id); err != nil {
		return err
	}
	return v.after
}

// book returns what bills now, by session.
func (f *fake) book() map[string]*billed {
	f.mu.Lock()
	defer f.mu.Unlock()
	bills := map[string]*billed{}
	for _, m := range f.clouds {
		if m.billing() {
			bills[m.session] = m
		}
	}
	return bills
}

// row returns the newest session whose mark has this name.
func (f *fake) row(t *testing.T, name string) shopper.Session {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range slices.Backward(f.rows) {
		if mark, ok := ParseMark(r.ConsumerID); ok && mark.Name == name {
			return r.Session
		}
	}
	t.Fatalf("no session was ever made under %s", name)
	return shopper.Session{}
}

// set changes a session behind the service's back; read returns it.
func (f *fake) set(id string, change func(r *row)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.byID[id])
}

func (f *fake) read(id string) shopper.Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byID[id].Session
}

// find returns the row itself, for the service's own doings.
func (f *fake) find(id string) *row {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byID[id]
}

func (f *fake) forget(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byID, id)
}

func (f *fake) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// honest checks what holds in every test: no mark was used twice, and every
// session that was asked to end, but those, was read to have ended.
func (f *fake) honest(t *testing.T, but map[string]bool) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for mark, n := range f.posts {
		if n != 1 {
			t.Errorf("the request marked %s was sent %d times", mark, n)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(f.proved)) {
		if _, exists := f.byID[id]; exists && !f.proved[id] && !but[id] {
			t.Errorf("session %s was asked to end and never read to have ended", id)
		}
	}
}
