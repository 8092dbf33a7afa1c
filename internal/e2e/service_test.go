package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

const (
	post = "POST /api/v1/sessions"
	del  = "DELETE /api/v1/sessions/{id}"
)

// row is a fault and the name of the rental that meets it.
type row struct {
	name  string
	route string
	fault sandbox.Fault
	value any
	times int
	// rentals is how many machines the name has had in the end.
	rentals int
}

func rules(rows []row) []sandbox.Rule {
	var all []sandbox.Rule
	for _, r := range rows {
		all = append(all, sandbox.Rule{
			Route: r.route, Nth: 1, Times: r.times, Fault: r.fault, Value: r.value, Consumer: "terraform/" + r.name + "/",
		})
	}
	return all
}

// Whatever comes back from the request that rents, the apply ends with one
// machine, and what was rented before is given back.
func TestE2EAnswerToPost(t *testing.T) {
	t.Parallel()
	rows := []row{
		{name: "lost-before", fault: sandbox.LoseAnswerBefore, rentals: 1},
		{name: "lost-after", fault: sandbox.LoseAnswerAfter, rentals: 2},
		{name: "after-500", fault: sandbox.StatusAfter, value: 500, rentals: 2},
		{name: "after-502", fault: sandbox.StatusAfter, value: 502, rentals: 2},
		{name: "before-504", fault: sandbox.Status, value: 504, rentals: 1},
		{name: "page", fault: sandbox.HTML, rentals: 2},
		{name: "truncated", fault: sandbox.Truncate, rentals: 2},
		{name: "no-json", fault: sandbox.InvalidJSON, rentals: 2},
		{name: "no-key", fault: sandbox.NoKey, rentals: 2},
		{name: "no-id", fault: sandbox.NoID, rentals: 2},
	}
	w := newWorld(t)
	s := w.newStack(t, "s")
	var blocks, names []string
	for i := range rows {
		rows[i].route = post
		blocks, names = append(blocks, session(rows[i].name)), append(names, rows[i].name)
	}
	s.write(t, blocks...)
	w.faults(t, rules(rows)...)
	s.apply(t)
	w.struck(t)
	w.accounted(t, []*stack{s}, slices.Clone(names)...)
	for _, r := range rows {
		if n := w.rentals(t, r.name); n != r.rentals {
			t.Errorf("%s: %d machines were rented, want %d", r.name, n, r.rentals)
		}
	}
	s.unchanged(t)
	s.destroy(t)
	w.accounted(t, []*stack{s})
}

// rentals counts the machines that a name has ever had.
func (w *world) rentals(t *testing.T, wanted string) int {
	t.Helper()
	n := 0
	for _, r := range w.ledger(t).Rentals {
		if name(r) == wanted {
			n++
		}
	}
	return n
}

// Whatever comes back from the request that destroys, the destroy ends when the
// machine has gone.
func TestE2EReleasing(t *testing.T) {
	t.Parallel()
	rows := []row{
		{name: "status-500", route: del, fault: sandbox.Status, value: 500, times: 2},
		{name: "after-503", route: del, fault: sandbox.StatusAfter, value: 503},
		{name: "lost-before", route: del, fault: sandbox.LoseAnswerBefore, times: 2},
		{name: "lost-after", route: del, fault: sandbox.LoseAnswerAfter},
		{name: "lie", route: del, fault: sandbox.ClaimSuccess, times: 2},
		{name: "no-json", route: del, fault: sandbox.InvalidJSON},
		{name: "slow", route: sandbox.EventDestroy, fault: sandbox.DestroySlow, value: "3m"},
		{name: "unreadable", route: "GET /api/v1/sessions/{id}", fault: sandbox.Status, value: 502, times: 3},
	}
	w := newWorld(t)
	s := w.newStack(t, "s")
	blocks := []string{session("gone")}
	for _, r := range rows {
		blocks = append(blocks, session(r.name))
	}
	s.write(t, blocks...)
	s.apply(t)
	w.ask(t, http.MethodDelete, "/api/v1/sessions/"+w.billing(t, "gone"), nil, nil)
	w.faults(t, rules(rows)...)
	s.destroy(t, "-refresh=false")
	w.struck(t)
	w.accounted(t, []*stack{s})
}

// A machine that its cloud doesn't give up: the error says what it costs and
// what to do, state keeps it, and a destroy that the service answers with 200
// while it does nothing is no success either.
func TestE2ERefusesToDie(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "-speed", "10") // ten minutes after its start the service takes a stuck session up again
	s := w.newStack(t, "s")
	s.write(t, session("a", `timeouts = { delete = "4s" }`))
	s.apply(t)
	id := w.billing(t, "a")
	w.faults(t, sandbox.Rule{Route: sandbox.EventDestroy, Fault: sandbox.DestroyFails})
	says(t, s.must(t, 1, destroyArgs...), "Session was not released", id, "$0.30 an hour", "Run destroy again")
	w.accounted(t, []*stack{s}, "a")
	w.faults(t)
	says(t, s.must(t, 1, destroyArgs...), "Session was not released", id, `last status was "stopping"`, "$0.30 an hour")
	w.accounted(t, []*stack{s}, "a")
	w.advance(t, 11*time.Minute)
	s.destroy(t)
	if status := w.status(t, id); status != "stopped" {
		t.Errorf("the destroy succeeded while the session reads %s", status)
	}
	w.accounted(t, []*stack{s})
}

// A session that has ended without Terraform leaves state with a warning that
// says why, and is rented again.
func TestE2EEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.write(t, session("a"))
	s.apply(t)
	first := w.billing(t, "a")
	w.ask(t, http.MethodDelete, "/api/v1/sessions/"+first, nil, nil)
	says(t, s.apply(t), "Warning: Session has ended: a", first, `is "stopped"`, "released outside this configuration")
	w.accounted(t, []*stack{s}, "a")

	second := w.billing(t, "a")
	w.advance(t, 2*time.Hour)
	eventually(t, func() error {
		if status := w.status(t, second); status != "stopped" {
			return fmt.Errorf("it reads %s", status)
		}
		return nil
	})
	says(t, s.must(t, 2, planArgs...), "Warning: Session has ended: a", second, "1 to add, 0 to change, 0 to destroy")
	s.destroy(t)
	w.accounted(t, []*stack{s})
}

// A plan over two hundred sessions, against a service that lets ten requests a
// second through, takes its time and doesn't fail.
func TestE2ERateLimit(t *testing.T) {
	t.Parallel()
	const sessions = 200
	w := newWorld(t)
	s := w.newStack(t, "s")
	block := func(n int) string {
		return strings.Replace(session("a", "requirements = {}"), "requirements = {}", fmt.Sprintf("count = %d", n), 1)
	}
	s.write(t, block(1))
	s.apply(t)
	s.multiply(t, sessions)
	s.write(t, block(sessions))
	w.faults(t, sandbox.Rule{Route: "GET *", Fault: sandbox.RateLimit, Value: 10})
	begun := time.Now()
	s.must(t, 0, append(planArgs, "-parallelism=30")...)
	if took := time.Since(begun); took < (sessions/10-2)*time.Second {
		t.Errorf("the plan took %s: it has not been slowed down", took)
	}
	w.faults(t)
	s.write(t, block(1))
	s.multiply(t, 1)
	s.destroy(t)
	w.accounted(t, []*stack{s})
}

// multiply makes the state hold its first instance so many times.
func (s *stack) multiply(t *testing.T, times int) {
	t.Helper()
	data, err := os.ReadFile(s.stateFile())
	if err != nil {
		t.Fatal(err)
	}
	var state map[string]any
	if err := json.Unmarshal(data, &state); err != nil {
		t.Fatal(err)
	}
	resource := state["resources"].([]any)[0].(map[string]any)
	first := resource["instances"].([]any)[0].(map[string]any)
	var instances []any
	for i := range times {
		instance := map[string]any{}
		for key, value := range first {
			instance[key] = value
		}
		instance["index_key"] = i
		instances = append(instances, instance)
	}
	resource["instances"] = instances
	if data, err = json.Marshal(state); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.stateFile(), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Rentals made side by side don't each find room in the budget for one.
func TestE2EBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.settings = "budget = { max_price_per_hour = 0.7 }"
	s.write(t, session("a"), session("b"), session("c"), session("d"))
	says(t, s.must(t, 1, applyArgs...), "Budget would be exceeded", "$0.70 an hour", "Nothing was rented")
	if bill := w.ledger(t); len(bill.Billing) != 2 || bill.PricePerHour > 0.7 {
		t.Errorf("it is not two machines within the budget that bill: %v", bill)
	}
	if n := w.unknown(t, s); n > 0 {
		t.Errorf("%d machines bill that are not in state", n)
	}
	s.destroy(t)
	w.accounted(t, []*stack{s})
}
