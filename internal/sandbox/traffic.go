package sandbox

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Traffic counts the requests to a service, and to all machines.
type Traffic struct {
	// Requests counts requests to the service by route, such as "GET /api/v1/sessions/{id}"; "" = no route.
	Requests map[string]int `json:"requests"`
	// BusiestMinute is the largest number of them within a minute of the computer's clock.
	BusiestMinute int `json:"busiest_minute"`
	// Logins counts successful logins to machines, including the service's own.
	Logins int `json:"logins"`
	// Exchanges counts what clients wait for after a login: a channel, a request on one, an answer of a container engine.
	Exchanges int `json:"exchanges"`
}

// requestCount counts requests by route.
type requestCount struct {
	mu      sync.Mutex
	byRoute map[string]int
	times   []time.Time
}

func (c *requestCount) add(route string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byRoute[route]++
	c.times = append(c.times, time.Now())
}

// busiestMinuteLocked is the largest number of requests within a minute.
func (c *requestCount) busiestMinuteLocked() int {
	most, first := 0, 0
	for i, at := range c.times {
		for at.Sub(c.times[first]) >= time.Minute {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// Traffic returns the counts of this service's requests, and of all machines.
func (s *Sandbox) Traffic() Traffic {
	s.asked.mu.Lock()
	t := Traffic{Requests: maps.Clone(s.asked.byRoute), BusiestMinute: s.asked.busiestMinuteLocked()}
	s.asked.mu.Unlock()
	s.cloud.mu.Lock()
	instances := slices.Clone(s.cloud.instances)
	s.cloud.mu.Unlock()
	for _, inst := range instances {
		m, ok := inst.host.(*rentedMachine)
		if !ok {
			continue
		}
		t.Logins += m.Logins()
		t.Exchanges += m.Exchanges()
		if m.engine != nil {
			t.Exchanges += m.engine.Requests()
		}
	}
	return t
}

func (s *Sandbox) getTraffic(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, s.Traffic())
}
