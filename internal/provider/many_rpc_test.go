package provider_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// slowly makes a service for long lists, which a busy computer takes seconds to read: meanwhile it must not give up a release as stuck.
func slowly(o *sandbox.Options) { o.Speed = 20 }

// The service keeps every session forever. With more than it lists at once, the results are complete all the same, and a
// machine can be rented.
func TestAfterTenThousandSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slowly)
	const many = shopper.MaxSessions + 500
	w.AddEnded("terraform/old/0123456789abcdef0123456789abcdef", many, time.Now().AddDate(-1, 0, 0))
	c := w.configured(t, nil)
	made := c.create(sessionType, values{"name": "new", "offer_id": a5000})
	id := text(t, made.state, "id")
	w.AddEnded("terraform/last/0123456789abcdef0123456789abcdef", many, time.Now()) // it isn't among the newest

	all, diags := c.readData(sessionsType, values{"known_ids": []any{id}})
	expect(t, diags)
	if found := elements(t, all, "sessions"); len(found) != 1 || text(t, found[0], "id") != id {
		t.Errorf("listed: %s", all)
	}
	one, diags := c.readData(sessionType, values{"name": "new"})
	expect(t, diags)
	if text(t, one, "id") != id {
		t.Errorf("by its name it is %s", one)
	}
	listed, diags := c.list(sessionType, nil, 0)
	expect(t, diags)
	if len(listed) != 1 || text(t, listed[0].resource, "id") != id {
		t.Errorf("the list resource lists %d", len(listed))
	}
	ended, diags := c.readData(sessionsType, values{"statuses": []any{"stopped"}, "name_prefix": "nobody"})
	expect(t, diags, "WARNING: Older sessions are not shown", fmt.Sprint(shopper.MaxSessions))
	if n := len(elements(t, ended, "sessions")); n != 0 {
		t.Errorf("%d sessions have no such name", n)
	}
	tidy(t, c, made)
}

// What a consumer spent in a period is the sum over sessions that lived in it, and not
// reported if there are more than can be listed.
func TestCostsOfManySessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, slowly)
	c := w.configured(t, nil)
	w.AddEnded("other/old/0123456789abcdef0123456789abcdef", shopper.MaxSessions, time.Now().AddDate(0, -2, 0))
	made := c.create(sessionType, values{"name": "new", "offer_id": a5000, "reservation_hours": 3})
	w.Advance(time.Hour + time.Minute)
	read := func() tftypes.Value {
		t.Helper()
		sum, diags := c.readData(costsType, values{"consumer_id": "terraform"})
		expect(t, diags)
		return sum
	}
	testkit.Eventually(t, "an hour to be booked", func() bool { return number(t, read(), "total_cost") >= 0.31 })
	w.AddEnded("other/now/0123456789abcdef0123456789abcdef", shopper.MaxSessions-1000, time.Now())
	if sum := read(); number(t, sum, "total_cost") < 0.31 {
		t.Errorf("beside many others: %s", sum)
	}
	w.AddEnded("other/now/0123456789abcdef0123456789abcdef", 1000, time.Now())
	sum, diags := c.readData(costsType, values{"consumer_id": "terraform"})
	expect(t, diags, "WARNING: Could not read costs", fmt.Sprintf("more than %d sessions", shopper.MaxSessions))
	if !get(t, sum, "total_cost").IsNull() {
		t.Errorf("a sum without some of them: %s", sum)
	}
	tidy(t, c, made)
}
