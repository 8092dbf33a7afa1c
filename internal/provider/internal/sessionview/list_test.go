package sessionview

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

var now = time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)

// row is a session that is this many hours old.
func row(id string, status shopper.Status, age int) map[string]any {
	return map[string]any{
		"id": id, "status": status, "consumer_id": "c", "provider": "vastai", "gpu_type": "x", "reservation_hours": 1,
		"created_at": now.Add(-time.Duration(age) * time.Hour), "expires_at": now.Add(-time.Duration(age-1) * time.Hour),
	}
}

// ended are sessions that have ended, the newest of them this many hours old.
func ended(n, age int) []map[string]any {
	rows := make([]map[string]any, 0, n)
	for i := range n {
		rows = append(rows, row(fmt.Sprintf("ended-%d-%d", age, i), shopper.Stopped, age+i/100))
	}
	return rows
}

// service answers as the shopper does. It returns what was requested.
func service(t *testing.T, rows []map[string]any) (*shopper.Client, *[]string) {
	t.Helper()
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		asked = append(asked, q.Get("status")+q.Get("limit"))
		limit, err := strconv.Atoi(q.Get("limit"))
		if err != nil {
			t.Error(err)
		}
		list := slices.DeleteFunc(slices.Clone(rows), func(row map[string]any) bool {
			return q.Get("status") != "" && string(row["status"].(shopper.Status)) != q.Get("status") //nolint:forcetypeassert // it is one
		})
		list = list[:min(limit, len(list))]
		if err := json.NewEncoder(w).Encode(map[string]any{"sessions": list, "count": len(list)}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	client, err := shopper.New(shopper.Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client, &asked
}

func ids(sessions []shopper.Session) string {
	var all []string
	for _, s := range sessions {
		all = append(all, s.ID)
	}
	return strings.Join(all, " ")
}

func TestLive(t *testing.T) {
	t.Parallel()
	few := []map[string]any{
		row("word", "hibernating", 1), row("running", shopper.Running, 2), row("failed", shopper.Failed, 3),
		row("stopping", shopper.Stopping, 4), row("pending", shopper.Pending, 5), row("provisioning", shopper.Provisioning, 6),
	}
	many := slices.Concat(few[:2], ended(page, 2), few[2:])
	for _, test := range []struct {
		name     string
		rows     []map[string]any
		requests int
	}{
		{"all on the first page", few, 1},
		{"older ones behind it", many, 5},
	} {
		client, asked := service(t, test.rows)
		got, err := Live(t.Context(), client)
		if err != nil || ids(got) != "word running stopping pending provisioning" {
			t.Errorf("%s: %s, %v", test.name, ids(got), err)
		}
		if len(*asked) != test.requests {
			t.Errorf("%s: asked for %q", test.name, *asked)
		}
	}
}

func TestByStatusSaysWhatItLeavesOut(t *testing.T) {
	t.Parallel()
	rows := append(ended(shopper.MaxSessions-1, 2), row("failed", shopper.Failed, 1))
	client, _ := service(t, rows)
	got, complete, err := ByStatus(t.Context(), client, shopper.Stopped, shopper.Failed)
	if err != nil || len(got) != shopper.MaxSessions || !complete || got[0].ID != "failed" {
		t.Errorf("%d sessions, complete is %v, %v", len(got), complete, err)
	}
	client, _ = service(t, append(rows, row("one more", shopper.Stopped, 1000)))
	if got, complete, err = ByStatus(t.Context(), client, shopper.Stopped); err != nil || len(got) != shopper.MaxSessions || complete {
		t.Errorf("%d sessions, complete is %v, %v", len(got), complete, err)
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	const week = 7 * 24
	start := now.Add(-24 * time.Hour)
	recent := []map[string]any{row("in it", shopper.Stopped, 23), row("across its start", shopper.Stopped, 24), row("before it", shopper.Stopped, 26)}
	long := row("still running", shopper.Running, 100)
	for _, test := range []struct {
		name string
		rows []map[string]any
		want string // "" = an error
		asks int
	}{
		{"few", append(slices.Clone(recent), long), "in it across its start still running", 1},
		{"the first page reaches back far enough", slices.Concat(recent, []map[string]any{long}, ended(page, week+25)), "in it across its start still running", 1},
		{"the second does", slices.Concat(recent, ended(page, 26), []map[string]any{long}, ended(page, week)), "in it across its start still running", 2},
		{"none does", ended(shopper.MaxSessions, 1), "", 2},
	} {
		client, asked := service(t, test.rows)
		got, err := Since(t.Context(), client, start)
		if (err != nil) != (test.want == "") || ids(got) != test.want {
			t.Errorf("%s: %s, %v", test.name, ids(got), err)
		}
		if len(*asked) != test.asks {
			t.Errorf("%s: asked for %q", test.name, *asked)
		}
	}
}
