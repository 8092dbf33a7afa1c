package shopper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTimesAreUTC(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)
	const there = `"2026-11-23T07:00:00+02:00"`
	times := func(names ...string) string {
		fields := []string{`"id":"s1"`, `"session_id":"s1"`, `"hash_id":"s1"`, `"status":"running"`, `"ready":true`}
		for _, name := range names {
			fields = append(fields, fmt.Sprintf("%q:%s", name, there))
		}
		return "{" + strings.Join(fields, ",") + "}"
	}
	session := times("created_at", "expires_at")
	for name, test := range map[string]struct {
		body string
		read func(*Client) ([]time.Time, error)
	}{
		"Session": {session, func(c *Client) ([]time.Time, error) {
			s, err := c.Session(t.Context(), "s1")
			return []time.Time{s.CreatedAt, s.ExpiresAt}, err
		}},
		"Sessions": {`{"sessions":[` + session + `]}`, func(c *Client) ([]time.Time, error) {
			list, err := c.Sessions(t.Context(), SessionFilter{})
			return []time.Time{list[0].CreatedAt, list[0].ExpiresAt}, err
		}},
		"CreateSession": {`{"session":` + session + `,"ssh_private_key":"k"}`, func(c *Client) ([]time.Time, error) {
			made, err := c.CreateSession(t.Context(), rental())
			return []time.Time{made.Session.CreatedAt, made.Session.ExpiresAt}, err
		}},
		"Extend": {times("new_expires_at"), func(c *Client) ([]time.Time, error) {
			end, err := c.Extend(t.Context(), "s1", 1)
			return []time.Time{end}, err
		}},
		"Offer": {times("fetched_at"), func(c *Client) ([]time.Time, error) {
			o, err := c.Offer(t.Context(), "s1")
			return []time.Time{o.FetchedAt}, err
		}},
		"Offers": {`{"offers":[` + times("fetched_at") + `]}`, func(c *Client) ([]time.Time, error) {
			list, err := c.Offers(t.Context(), "")
			return []time.Time{list[0].FetchedAt}, err
		}},
		"CostSummary": {times("period_start", "period_end"), func(c *Client) ([]time.Time, error) {
			s, err := c.CostSummary(t.Context())
			return []time.Time{s.PeriodStart, s.PeriodEnd}, err
		}},
		"Templates": {`{"templates":[` + times("created_at") + `],"count":1}`, func(c *Client) ([]time.Time, error) {
			list, err := c.Templates(t.Context())
			return []time.Time{list[0].CreatedAt}, err
		}},
		"OfferHealth": {
			`{"offers":[` + times("suppressed_until", "last_failure") + `]}`,
			func(c *Client) ([]time.Time, error) {
				r, err := c.OfferHealth(t.Context())
				return []time.Time{*r.Offers[0].SuppressedUntil, *r.Offers[0].LastFailure}, err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := test.read(newClient(t, serve(t, 200, "application/json", test.body).URL, withoutRetries))
			if err != nil {
				t.Fatal(err)
			}
			for _, moment := range got {
				if !moment.Equal(want) || moment.Location() != time.UTC {
					t.Errorf("got %s, want %s", moment, want)
				}
			}
		})
	}
}

// TestAnswersAreAboutTheRequestedID has a service, or a cache in front of it, that answers with something else of the same kind.
func TestAnswersAreAboutTheRequestedID(t *testing.T) {
	t.Parallel()
	const other = `{"id":"s2","session_id":"s2","offer_id":"s2","hash_id":"s2","status":"running"}`
	client := newClient(t, serve(t, 200, "application/json", other).URL, withoutRetries)
	for name, read := range map[string]func(id string) (any, error){
		"session":              func(id string) (any, error) { return client.Session(t.Context(), id) },
		"diagnostics":          func(id string) (any, error) { return client.Diagnostics(t.Context(), id) },
		"offer":                func(id string) (any, error) { return client.Offer(t.Context(), id) },
		"cost":                 func(id string) (any, error) { return client.SessionCost(t.Context(), id) },
		"template":             func(id string) (any, error) { return client.Template(t.Context(), id) },
		"compatible templates": func(id string) (any, error) { return client.CompatibleTemplates(t.Context(), id) },
	} {
		if got, err := read("s1"); err == nil || !strings.Contains(err.Error(), `"s2"`) {
			t.Errorf("%s: got %+v and %v", name, got, err)
		}
		if _, err := read("s2"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStateIsNeverMadeUp has answers that a careless client would take
// for a session that ended, for an empty list, or for "gone".
func TestStateIsNeverMadeUp(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		status int
		body   string
	}{
		{"empty object", 200, `{}`},
		{"null", 200, `null`},
		{"an error with 200", 200, refusalText},
		{"no status", 200, `{"id":"s1"}`},
		{"another session", 200, `{"id":"s2","status":"stopped"}`},
		{"no content", 204, ``},
		{"a page", 200, `<html>maintenance</html>`},
		{"a proxy's 404", 404, `<html>not found</html>`},
		{"an unknown route", 404, `404 page not found`},
		{"a framework's 404", 404, `{"status":404,"error":"Not Found","path":"/api/v1/sessions/s1"}`},
		{"a gateway's 404", 404, `{"message":"no Route matched with those values","request_id":"x"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, serve(t, test.status, "application/json", test.body).URL, withoutRetries)
			session, err := client.Session(t.Context(), "s1")
			if err == nil || IsNotFound(err) || session != (Session{}) {
				t.Errorf("Session: got %+v and %v", session, err)
			}
			list, err := client.Sessions(t.Context(), SessionFilter{ConsumerID: "c1"})
			if err == nil || IsNotFound(err) || list != nil {
				t.Errorf("Sessions: got %+v and %v", list, err)
			}
			offers, err := client.Offers(t.Context(), "")
			if err == nil || offers != nil {
				t.Errorf("Offers: got %+v and %v", offers, err)
			}
			if err := client.Delete(t.Context(), "s1"); IsNotFound(err) {
				t.Errorf("Delete: got %v", err)
			}
			if costs, err := client.CostSummary(t.Context()); err == nil {
				t.Errorf("CostSummary: got %+v", costs)
			}
		})
	}
}

func TestNotFoundIsTheServicesWord(t *testing.T) {
	t.Parallel()
	client := newClient(t, serve(t, 404, "application/json", `{"error":"record not found","request_id":"r-1"}`).URL)
	_, err := client.Session(t.Context(), "s1")
	if !IsNotFound(err) || !IsNotFound(client.Delete(t.Context(), "s1")) || !IsNotFound(fmt.Errorf("around: %w", err)) {
		t.Errorf("got %v", err)
	}
	if IsNotFound(nil) || IsAmbiguous(nil) || IsUnreachable(nil) || IsUnauthorized(nil) {
		t.Error("no error is none of these")
	}
}

func TestIncompleteListsAreErrors(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"fewer than counted": `{"sessions":[` + runningText + `],"count":2}`,
		"more than counted":  `{"sessions":[` + runningText + `,` + runningText + `],"count":1}`,
		"none where counted": `{"sessions":null,"count":1}`,
		"no id":              `{"sessions":[{"status":"running"}],"count":1}`,
		"no status":          `{"sessions":[{"id":"s1"}],"count":1}`,
		"not a list":         `{"sessions":{"id":"s1"},"count":1}`,
	} {
		client := newClient(t, serve(t, 200, "application/json", body).URL, withoutRetries)
		if list, err := client.Sessions(t.Context(), SessionFilter{}); err == nil {
			t.Errorf("%s: got %+v", name, list)
		}
	}
	client := newClient(t, serve(t, 200, "application/json", `{"sessions":null,"count":0}`).URL, withoutRetries)
	if list, err := client.Sessions(t.Context(), SessionFilter{}); err != nil || len(list) != 0 {
		t.Errorf("an empty list in Go's own way: got %+v and %v", list, err)
	}
}

// TestSessionsKeepsToItsFilter has a service, or a cache before it, that
// ignores filters. Callers destroy what they find.
func TestSessionsKeepsToItsFilter(t *testing.T) {
	t.Parallel()
	body := `{"sessions":[
		{"id":"s1","consumer_id":"c1","provider":"vastai","status":"running"},
		{"id":"s2","consumer_id":"c2","provider":"vastai","status":"running"},
		{"id":"s3","consumer_id":"c1","provider":"tensordock","status":"running"},
		{"id":"s4","consumer_id":"c1","provider":"vastai","status":"stopped"},
		{"id":"s5","consumer_id":"c1","provider":"vastai","status":"running"}],"count":5}`
	var query string
	server := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		respond(w, 200, "application/json", body)
	})
	client := newClient(t, server.URL)
	for _, test := range []struct {
		filter      SessionFilter
		query, want string
		says        string // of a list that may be incomplete
	}{
		{SessionFilter{}, "limit=10001", "s1 s2 s3 s4 s5", ""},
		{SessionFilter{ConsumerID: "c1", Status: Running, Cloud: "vastai"}, "consumer_id=c1&limit=10001&provider=vastai&status=running", "s1 s5", ""},
		{SessionFilter{ConsumerID: "a/b c&d"}, "consumer_id=a%2Fb+c%26d&limit=10001", "", ""},
		{SessionFilter{Status: Running, Limit: 2}, "limit=2&status=running", "s1 s2", ""},
		{SessionFilter{Status: Running, Limit: 5}, "limit=5&status=running", "", "may omit"},
		{SessionFilter{Status: Running, Limit: 6}, "limit=6&status=running", "s1 s2 s3 s5", ""},
		{SessionFilter{Limit: MaxSessions}, "limit=10000", "s1 s2 s3 s4 s5", ""},
	} {
		list, err := client.Sessions(t.Context(), test.filter)
		if (err != nil) != (test.says != "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Fatalf("%+v: %v", test.filter, err)
		}
		var ids []string
		for _, session := range list {
			ids = append(ids, session.ID)
		}
		if got := strings.Join(ids, " "); got != test.want || query != test.query {
			t.Errorf("%+v: got %q by %q, want %q by %q", test.filter, got, query, test.want, test.query)
		}
	}
}

// TestSessionsArePagedByAGrowingLimit: a list that is shorter than its limit is
// complete, however many sessions have ended.
func TestSessionsArePagedByAGrowingLimit(t *testing.T) {
	t.Parallel()
	const live = 250
	server := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil || r.URL.Query().Get("status") != string(Running) {
			t.Errorf("asked for %s", r.URL.RawQuery)
		}
		sessions := make([]Session, min(limit, live))
		for i := range sessions {
			sessions[i] = Session{ID: fmt.Sprint("s", i), Status: Running}
		}
		text, err := json.Marshal(map[string]any{"sessions": sessions, "count": len(sessions)})
		if err != nil {
			t.Error(err)
		}
		respond(w, 200, "application/json", string(text))
	})
	client := newClient(t, server.URL)
	for limit, want := range map[int]int{100: 100, 200: 200, live: live, 400: live} {
		list, err := client.Sessions(t.Context(), SessionFilter{Status: Running, Limit: limit})
		if err != nil || len(list) != want {
			t.Errorf("limit %d: got %d sessions and %v", limit, len(list), err)
		}
	}
}

func TestListsAreBounded(t *testing.T) {
	t.Parallel()
	t.Run("sessions", func(t *testing.T) {
		t.Parallel()
		one := strings.Repeat(runningText+",", MaxSessions) + runningText
		client := newClient(t, serve(t, 200, "application/json", `{"sessions":[`+one+`]}`).URL)
		list, err := client.Sessions(t.Context(), SessionFilter{})
		if err == nil || list != nil || !strings.Contains(err.Error(), "more than 10000 sessions") {
			t.Errorf("got %d sessions and %v", len(list), err)
		}
		list, err = client.Sessions(t.Context(), SessionFilter{Limit: 7})
		if err != nil || len(list) != 7 {
			t.Errorf("got %d sessions and %v", len(list), err)
		}
	})
	t.Run("offers", func(t *testing.T) {
		t.Parallel()
		next := 0
		server := serveFunc(t, func(w http.ResponseWriter, _ *http.Request) { // a service whose list never ends
			offers := make([]Offer, 5000)
			for i := range offers {
				next++
				offers[i].ID = fmt.Sprint("o", next)
			}
			text, err := json.Marshal(map[string]any{"offers": offers, "total": next + 1})
			if err != nil {
				t.Error(err)
			}
			respond(w, 200, "application/json", string(text))
		})
		offers, err := newClient(t, server.URL).Offers(t.Context(), "")
		if err == nil || offers != nil || !strings.Contains(err.Error(), "more than 20000 offers") {
			t.Errorf("got %d offers and %v", len(offers), err)
		}
	})
	t.Run("bytes", func(t *testing.T) {
		t.Parallel()
		network := &script{answer: func(int, *http.Request) (*http.Response, error) {
			r := response(200, "")
			r.Body = endless{}
			return r, nil
		}}
		_, err := newClient(t, fakeURL, network.use).Session(t.Context(), "s1")
		if err == nil || !strings.Contains(err.Error(), "longer than 32 MiB") || network.attempts() != 1 {
			t.Errorf("%d attempts, then %v", network.attempts(), err)
		}
	})
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func (endless) Close() error { return nil }

// TestOffersPages asks on when a service sends less than its total, drops what
// comes twice because the market moved, and sends no filter but the cloud.
func TestOffersPages(t *testing.T) {
	t.Parallel()
	var queries []string
	server := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		queries = append(queries, r.URL.RawQuery)
		pages := map[string]string{
			"":  `{"offers":[{"id":"a","provider":"x"},{"id":"b","provider":"x"}],"total":5}`,
			"2": `{"offers":[{"id":"b","provider":"x"},{"id":"c","provider":"y"},{"id":"d","provider":"x"}],"total":5}`,
		}
		respond(w, 200, "application/json", pages[r.URL.Query().Get("offset")])
	})
	offers, err := newClient(t, server.URL).Offers(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if len(offers) != 3 || offers[0].ID != "a" || offers[1].ID != "b" || offers[2].ID != "d" {
		t.Errorf("got %+v", offers)
	}
	if got := strings.Join(queries, " "); got != "provider=x offset=2&provider=x" {
		t.Errorf("the queries were %q", got)
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	server := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		template := `{"id":7,"hash_id":"ab12","name":"vLLM","image":"vllm/vllm-openai","tag":"v0.11","env":"-p 8000:8000","onstart":"x",` +
			`"runtype":"ssh","args_str":"y","use_ssh":true,"ssh_direct":true,"recommended":true,"recommended_disk_space":60,"count_created":3}`
		switch r.URL.Path {
		case "/api/v1/templates":
			respond(w, 200, "application/json", `{"templates":[`+template+`],"count":1}`)
		case "/api/v1/templates/ab12":
			respond(w, 200, "application/json", template)
		case "/api/v1/inventory/vastai-1/compatible-templates":
			respond(w, 200, "application/json", `{"compatible_templates":[{"hash_id":"ab12","name":"vLLM"}],"count":1,"offer_id":"vastai-1"}`)
		}
	})
	client := newClient(t, server.URL, withoutRetries)
	want := Template{
		HashID: "ab12", Name: "vLLM", Image: "vllm/vllm-openai", Tag: "v0.11", Env: "-p 8000:8000", OnStart: "x",
		RunType: "ssh", Args: "y", UseSSH: true, SSHDirect: true, Recommended: true, RecommendedDiskGB: 60, CountCreated: 3,
	}
	if list, err := client.Templates(t.Context()); err != nil || len(list) != 1 || list[0] != want {
		t.Errorf("Templates: got %+v and %v", list, err)
	}
	if got, err := client.Template(t.Context(), "ab12"); err != nil || got != want {
		t.Errorf("Template: got %+v and %v", got, err)
	}
	compatible, err := client.CompatibleTemplates(t.Context(), "vastai-1")
	if err != nil || len(compatible) != 1 || compatible[0] != (CompatibleTemplate{HashID: "ab12", Name: "vLLM"}) {
		t.Errorf("CompatibleTemplates: got %+v and %v", compatible, err)
	}
	_, err = client.Template(t.Context(), "cd34")
	if failed, ok := errors.AsType[*Error](err); !ok || failed.Status != 200 {
		t.Errorf("an empty answer: got %v", err)
	}
}

func TestConsumerCostAsks(t *testing.T) {
	t.Parallel()
	var query string
	server := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		respond(w, 200, "application/json", `{"consumer_id":"a/b","total_cost":1.5,"by_provider":{"vastai":1.5},"by_gpu_type":{"H100":1.5},"period_start":"2026-11-01T00:00:00Z"}`)
	})
	costs, err := newClient(t, server.URL).ConsumerCost(t.Context(), "a/b", PeriodMonthly)
	if err != nil || query != "consumer_id=a%2Fb&period=monthly" || costs.ByCloud["vastai"] != 1.5 || costs.ByGPUType["H100"] != 1.5 {
		t.Errorf("got %+v and %v by %q", costs, err, query)
	}
}
