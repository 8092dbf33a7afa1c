package rental

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// rent is the service's part of a request that rents. What it holds in memory
// overwrites what others wrote meanwhile.
func (f *fake) rent(req shopper.CreateSession) (shopper.Created, error) {
	r, luck, err := f.insert(req)
	if err != nil {
		return shopper.Created{}, err
	}
	_ = nap(context.Background(), luck.hold)
	f.mu.Lock()
	defer f.mu.Unlock()
	if luck.refuse != "" {
		r.Status, r.Error = shopper.Failed, "provider create failed: "+luck.refuse
		if luck.refuse == "stale" {
			return shopper.Created{}, refusal(503, shopper.TypeStaleInventory, "offer unavailable")
		}
		return shopper.Created{}, &shopper.AmbiguousError{Err: refusal(500, "provision_failed", luck.refuse), Answered: true}
	}
	m := &billed{
		id: fmt.Sprintf("m%d", len(f.clouds)), session: r.ID, mark: r.ConsumerID, price: r.PricePerHour, rented: time.Now(),
		undead: luck.undead,
	}
	if luck.factor > 0 {
		m.price *= luck.factor
	}
	f.clouds = append(f.clouds, m)
	f.countLocked(r.ConsumerID)
	r.machineID, r.SSHUser, r.Status = m.id, "root", shopper.Provisioning
	time.AfterFunc(f.shows, func() { f.show(r) })
	f.start(r, luck)
	answer := r.Session
	answer.PricePerHour = m.price // only this answer has it
	return shopper.Created{Session: answer, PrivateKey: "key of " + r.ID}, nil
}

// insert makes the row.
func (f *fake) insert(req shopper.CreateSession) (*row, lot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := slices.IndexFunc(f.offers, func(o shopper.Offer) bool { return o.ID == req.OfferID })
	if at < 0 {
		return nil, lot{}, refusal(404, "", "offer not found: "+req.OfferID)
	}
	offer := f.offers[at]
	for _, r := range f.rows {
		if r.ConsumerID == req.ConsumerID && r.offer == req.OfferID && !r.Status.Terminal() && r.Status != shopper.Stopping {
			return nil, lot{}, refusal(409, "", fmt.Sprintf("consumer %s already has active session %s for offer %s (status: %s)",
				req.ConsumerID, r.ID, r.offer, r.Status))
		}
	}
	luck := lot{}
	if len(f.boots) > 0 {
		luck, f.boots = f.boots[0], f.boots[1:]
	}
	if luck.hold == 0 {
		luck.hold = f.hold
	}
	f.made++
	r := &row{offer: offer.ID, Session: shopper.Session{
		ID: fmt.Sprintf("s%d", f.made), ConsumerID: req.ConsumerID, Cloud: offer.Cloud, GPUType: offer.GPUType,
		GPUCount: offer.GPUCount, Status: shopper.Pending, WorkloadType: req.WorkloadType, ReservationHours: req.ReservationHours,
		PricePerHour: offer.PricePerHour, CreatedAt: time.Now().UTC(),
		ExpiresAt: time.Now().UTC().Add(time.Duration(req.ReservationHours) * time.Hour),
	}}
	f.rows = append(f.rows, r)
	f.byID[r.ID] = r
	if luck.refuse == "disk" {
		return nil, lot{}, refusal(400, shopper.TypeInsufficientDisk, "disk too small") // the row stays
	}
	r.Status = shopper.Provisioning
	time.AfterFunc(10*time.Minute, func() { f.stuck(r) })
	return r, luck, nil
}

// countLocked notes how many machines bill at once under a mark's name.
func (f *fake) countLocked(consumerID string) {
	mark, ok := ParseMark(consumerID)
	if !ok {
		return
	}
	n := 0
	for _, m := range f.clouds {
		if other, _ := ParseMark(m.mark); m.billing() && mark.sameName(other) {
			n++
		}
	}
	name := mark.Consumer + "/" + mark.Name
	f.most[name] = max(f.most[name], n)
}

// show makes a machine's address known: two clouds report it only after a while.
func (f *fake) show(r *row) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !r.Status.Terminal() {
		r.SSHHost, r.SSHPort = "192.0.2.1", 22
	}
}

func (f *fake) start(r *row, luck lot) {
	switch {
	case luck.never:
		time.AfterFunc(8*time.Minute, func() { f.fail(r, "SSH verification timeout") })
	case luck.dies != "":
		time.AfterFunc(f.boot, func() { f.fail(r, luck.dies) })
	case luck.stopped:
		time.AfterFunc(f.boot/2, func() { _ = f.destroy(context.Background(), r.ID) })
	default:
		time.AfterFunc(f.boot, func() { f.running(r, luck) })
	}
}

func (f *fake) running(r *row, luck lot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Status.Terminal() || r.Status == shopper.Stopping {
		return
	}
	if luck.vanish {
		f.endLocked(r.machineID)
		delete(f.byID, r.ID)
		f.rows = slices.DeleteFunc(f.rows, func(other *row) bool { return other == r })
		return
	}
	r.Status = shopper.Running
	r.SSHHost, r.SSHPort = "192.0.2.1", 22
}

// fail ends a session as the service does, and has it cleaned a minute later.
func (f *fake) fail(r *row, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Status.Terminal() {
		return
	}
	f.endLocked(r.machineID)
	r.Status, r.Error = shopper.Failed, reason
	time.AfterFunc(time.Minute, func() { f.clean(r) })
}

func (f *fake) clean(r *row) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Status == shopper.Failed && r.machineID != "" {
		f.endLocked(r.machineID)
		if f.truthful && slices.ContainsFunc(f.clouds, func(m *billed) bool { return m.id == r.machineID && m.billing() }) {
			time.AfterFunc(time.Minute, func() { f.clean(r) })
			return
		}
		r.Status, r.machineID = shopper.Stopped, ""
	}
}

// stuck is the periodic check ten minutes after a session was made, and every
// minute from then on.
func (f *fake) stuck(r *row) {
	f.mu.Lock()
	again := !r.Status.Terminal()
	if f.unchecked {
		f.mu.Unlock()
		return
	}
	hit := r.Status == shopper.Stopping || r.Status == shopper.Provisioning
	f.mu.Unlock()
	if hit {
		f.fail(r, "Session stuck - manual cleanup may be required")
	} else if again && time.Since(r.CreatedAt) < 13*time.Hour {
		time.AfterFunc(time.Minute, func() { f.stuck(r) })
	}
}

// endLocked asks a cloud once to destroy a machine.
func (f *fake) endLocked(id string) {
	for _, m := range f.clouds {
		if m.id != id || !m.billing() {
			continue
		}
		if m.undead != 0 {
			m.undead--
			return
		}
		m.released = time.Now()
	}
}

func (f *fake) bills(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.clouds, func(m *billed) bool { return m.id == id && m.billing() })
}

// destroy is the service's DELETE.
func (f *fake) destroy(ctx context.Context, id string) error {
	lock := f.lock(id)
	select {
	case lock <- struct{}{}:
	case <-ctx.Done():
		return lost("deleting", ctx.Err())
	}
	defer func() { <-lock }()
	f.mu.Lock()
	r, ok := f.byID[id]
	if !ok {
		f.proved[id] = true
		f.mu.Unlock()
		return notFound()
	}
	if r.Status == shopper.Failed && r.machineID != "" {
		f.mu.Unlock()
		f.clean(r)
		return nil
	}
	if r.Status.Terminal() || r.Status == shopper.Stopping {
		f.mu.Unlock()
		return nil
	}
	r.Status = shopper.Stopping
	machineID := r.machineID
	f.mu.Unlock()
	if machineID != "" {
		if err := f.destroyVerified(ctx, machineID); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r.Status = shopper.Stopped
	return nil
}

func (f *fake) destroyVerified(ctx context.Context, machineID string) error {
	for n := 1; n <= 10; n++ {
		f.mu.Lock()
		f.endLocked(machineID)
		f.mu.Unlock()
		if err := nap(ctx, time.Duration(n)*5*time.Second); err != nil {
			return lost("deleting", err)
		}
		if !f.bills(machineID) {
			return nil
		}
	}
	return refusal(500, "", "failed to verify destruction after 10 attempts")
}

func (f *fake) lock(id string) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.locks[id] == nil {
		f.locks[id] = make(chan struct{}, 1)
	}
	return f.locks[id]
}
