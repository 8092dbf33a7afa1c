package sandbox

import (
	"cmp"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// costs are the service's own books, an estimate: the price of a full hour for each
// hour in which a session was seen running, and for each hour of a session that
// failed. What the clouds bill is in the ledger.
type costs struct {
	mu   sync.Mutex
	last time.Time // the last hour that was booked
	rows map[costKey]costRow
}

type costKey struct {
	session string
	hour    time.Time
}

type costRow struct {
	consumer, provider, gpuType string
	amount                      float64
}

func newCosts(now time.Time) *costs { return &costs{last: now, rows: map[costKey]costRow{}} }

// Hourly books the hours that have passed for the sessions that run now.
func (c *costs) Hourly(now time.Time, running []session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for now.Sub(c.last) >= time.Hour {
		c.last = c.last.Add(time.Hour)
		for _, row := range running {
			if !row.Created.After(c.last) {
				c.bookLocked(row, c.last)
			}
		}
	}
}

// Final books every hour of a session that has failed.
func (c *costs) Final(row session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for hour := row.Created.Truncate(time.Hour); row.stopped.After(row.Created) && !hour.After(row.stopped); hour = hour.Add(time.Hour) {
		c.bookLocked(row, hour)
	}
}

func (c *costs) bookLocked(row session, at time.Time) {
	c.rows[costKey{row.ID, at.Truncate(time.Hour)}] = costRow{row.Consumer, row.Provider, row.GPUType, row.Price}
}

// Clear forgets every booking.
func (c *costs) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.rows)
}

// Session is what a session has cost so far.
func (c *costs) Session(id string) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := 0.0
	for key, row := range c.rows {
		if key.session == id {
			total += row.amount
		}
	}
	return total
}

// costSummary is what a consumer, or everybody, has spent in a period.
type costSummary struct {
	Consumer   string             `json:"consumer_id,omitempty"`
	Total      float64            `json:"total_cost"`
	Sessions   int                `json:"session_count"`
	Hours      float64            `json:"hours_used"`
	ByProvider map[string]float64 `json:"by_provider,omitempty"`
	ByGPUType  map[string]float64 `json:"by_gpu_type,omitempty"`
	Start      time.Time          `json:"period_start"`
	End        time.Time          `json:"period_end"`
}

// Summary sums up a period: its start counts, its end doesn't.
func (c *costs) Summary(consumer string, start, end time.Time) costSummary {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := costSummary{
		Consumer: consumer, Start: start, End: end, ByProvider: map[string]float64{}, ByGPUType: map[string]float64{},
	}
	seen := map[string]bool{}
	for key, row := range c.rows {
		if consumer != "" && row.consumer != consumer || key.hour.Before(start) || !key.hour.Before(end) {
			continue
		}
		seen[key.session] = true
		sum.Hours++
		sum.Total += row.amount
		sum.ByProvider[row.provider] += row.amount
		sum.ByGPUType[row.gpuType] += row.amount
	}
	sum.Sessions = len(seen)
	return sum
}

// costPeriod returns the period that a query asks for, by default this month.
func costPeriod(q url.Values, now time.Time) (start, end time.Time, err error) {
	month := func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC) }
	switch q.Get("period") {
	case "daily":
		start = now.Truncate(24 * time.Hour)
		return start, start.AddDate(0, 0, 1), nil
	case "monthly":
		return month(now), month(now).AddDate(0, 1, 0), nil
	}
	start, err = costDate(q.Get("start_date"), "start_date")
	if err == nil {
		end, err = costDate(q.Get("end_date"), "end_date")
	}
	if err != nil {
		return start, end, err
	}
	if start.IsZero() {
		start = month(cmp.Or(end, now))
	}
	if end.IsZero() {
		end = month(start).AddDate(0, 1, 0)
	}
	return start, end, nil
}

func costDate(text, name string) (time.Time, error) {
	date, err := time.Parse(time.DateOnly, text)
	if text != "" && err != nil {
		return date, refuse(http.StatusBadRequest, "invalid %s format, expected YYYY-MM-DD: %s", name, text)
	}
	return date, nil
}
