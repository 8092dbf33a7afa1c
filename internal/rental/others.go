package rental

import (
	"context"
	"time"
)

// othersLimit is how long Rent waits for another process that works under the
// same name: a request that rents, and a release, at their longest.
const othersLimit = askLimit + 5*time.Minute

// waitForOthers waits while another process works on entries under the name. One
// whose Terraform was killed gives back what it was renting: that is neither a
// leftover yet nor a conflict any more when it has ended. What it can't find out
// is left to the search for active sessions.
func (r *run) waitForOthers(ctx context.Context, name Mark) {
	limited, cancel := context.WithTimeout(ctx, othersLimit)
	defer cancel()
	pause := newPace(200*time.Millisecond, 2*time.Second)
	for told := false; r.othersAtWork(name); told = true {
		if !told {
			r.say("Another process is at work under the name %s, perhaps giving back what an earlier run was renting; waiting for it", name.Name)
		}
		if pause.wait(limited) != nil {
			return
		}
	}
}

// othersAtWork reports whether another process holds an entry under the name.
func (r *Renter) othersAtWork(name Mark) bool {
	entries, _ := r.journal.entries(r.service.URL(), name) // problems are told by the sweep that follows
	for _, e := range entries {
		if e.HandedOver {
			continue
		}
		if _, mine := ours.Load(e.Mark); mine {
			continue
		}
		h, free, err := r.journal.hold(e)
		if err == nil && !free {
			return true
		}
		h.release()
	}
	return false
}
