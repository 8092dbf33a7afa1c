package e2e

import (
	"errors"
	"net/http"
	"testing"
)

// Another shopper's 404 says nothing about a machine: it stays in state, and a
// destroy says which shopper has rented it.
func TestE2EAnotherShopperProvesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.write(t, session("a"))
	s.apply(t)
	var other struct {
		URL string `json:"url"`
	}
	w.ask(t, http.MethodPost, "/sandbox/services", nil, &other)
	s.url = other.URL
	s.write(t, session("a"))
	says(t, s.must(t, 0, planArgs...), "Session is not known to this shopper", w.url)
	says(t, s.must(t, 1, destroyArgs...), "Session is not known to this shopper", "Set the provider's url to "+w.url)
	w.accounted(t, []*stack{s}, "a")
	s.url = w.url
	s.write(t, session("a"))
	s.destroy(t)
	w.accounted(t, []*stack{s})
}

// A shopper that has lost its database doesn't know a machine that still answers.
func TestE2EShopperWithoutItsDatabaseProvesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "-reconciler", "-speed", "10")
	s := w.newStack(t, "s")
	s.write(t, session("a"))
	s.apply(t)
	w.ask(t, http.MethodPost, "/sandbox/wipe", nil, nil)
	says(t, s.must(t, 0, planArgs...), "still answers with the same host key")
	says(t, s.must(t, 1, destroyArgs...), "still answers with the same host key", "the cloud's console")
	w.accounted(t, []*stack{s}, "a")
	eventually(t, func() error { // the service's own reconciler finds it
		if len(w.ledger(t).Billing) > 0 {
			return errors.New("it still bills")
		}
		return nil
	})
	s.destroy(t)
	w.accounted(t, []*stack{s})
}
