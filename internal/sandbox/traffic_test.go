package sandbox

import (
	"maps"
	"net/http"
	"testing"
)

// A request counts by its route, whatever becomes of it; the sandbox's own routes don't.
func TestTrafficIsCounted(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: "GET /ready", Nth: 1, Fault: Status}}})
	for _, path := range []string{"/api/v1/sessions/a", "/api/v1/sessions/b", "/api/v1/sessions?limit=1", "/nothing", "/ready"} {
		c.get(path)
	}
	want := map[string]int{"GET /api/v1/sessions/{id}": 2, "GET /api/v1/sessions": 1, "": 1, http.MethodGet + " /ready": 1}
	if c.get("/sandbox/traffic").text != `{"requests":{"":1,"GET /api/v1/sessions":1,"GET /api/v1/sessions/{id}":2,"GET /ready":1},"busiest_minute":5,"logins":0,"exchanges":0}` {
		t.Error(c.get("/sandbox/traffic").text)
	}
	if got := c.s.Traffic(); !maps.Equal(got.Requests, want) || got.Logins != 0 || got.Exchanges != 0 {
		t.Errorf("counted %+v, want %v", got, want)
	}
}
