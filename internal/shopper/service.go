package shopper

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Health is the service's own report of its health. That it is unhealthy is no error.
type Health struct {
	Status   string            `json:"status"` // "ok" or "unavailable"
	Services map[string]string `json:"services"`
}

// SessionCost is what one session has cost so far.
type SessionCost struct {
	SessionID string  `json:"session_id"`
	TotalCost float64 `json:"total_cost"`
	Currency  string  `json:"currency"`
}

// Period is the period over which a consumer's costs are summed.
type Period string

// The periods that the service knows.
const (
	PeriodDefault Period = "" // the current month
	PeriodDaily   Period = "daily"
	PeriodMonthly Period = "monthly"
)

// CostSummary is what one consumer, or all, spent in a period. Amounts are in USD.
type CostSummary struct {
	ConsumerID   string             `json:"consumer_id"`
	TotalCost    float64            `json:"total_cost"`
	SessionCount int                `json:"session_count"`
	HoursUsed    float64            `json:"hours_used"`
	ByCloud      map[string]float64 `json:"by_provider"`
	ByGPUType    map[string]float64 `json:"by_gpu_type"`
	PeriodStart  time.Time          `json:"period_start"`
	PeriodEnd    time.Time          `json:"period_end"`
}

func (s *CostSummary) toUTC() {
	s.PeriodStart = s.PeriodStart.UTC()
	s.PeriodEnd = s.PeriodEnd.UTC()
}

// Health reads the service's health. A 503 with a report is no error.
func (c *Client) Health(ctx context.Context) (Health, error) {
	call := c.read("reading the service's health", c.at(nil, "health"))
	call.accept503 = true
	return get(ctx, call, func(h *Health) error {
		if h.Status == "" {
			return errors.New("it has no status")
		}
		return nil
	})
}

// Ready reads whether the service has started up. It hasn't while it looks for machines that its last run left over; the other
// routes already answer. A 503 that says so is no error.
func (c *Client) Ready(ctx context.Context) (bool, error) {
	call := c.read("reading the service's readiness", c.at(nil, "ready"))
	call.accept503 = true
	type readiness struct {
		Ready *bool `json:"ready"`
	}
	answer, err := get(ctx, call, func(a *readiness) error {
		if a.Ready == nil {
			return errors.New("it doesn't report whether the service is ready")
		}
		return nil
	})
	return err == nil && *answer.Ready, err
}

// SessionCost reads what a session has cost so far.
func (c *Client) SessionCost(ctx context.Context, sessionID string) (SessionCost, error) {
	call := c.read(about("reading the cost of session", sessionID), c.at(url.Values{"session_id": {sessionID}}, "api", "v1", "costs"))
	return getByID(ctx, call, "session", sessionID, func(cost *SessionCost) string { return cost.SessionID })
}

// ConsumerCost reads what one consumer spent in a period.
func (c *Client) ConsumerCost(ctx context.Context, consumer string, period Period) (CostSummary, error) {
	query := url.Values{"consumer_id": {consumer}}
	set(query, "period", string(period))
	call := c.read("reading a consumer's costs", c.at(query, "api", "v1", "costs"))
	switch {
	case consumer == "":
		return CostSummary{}, call.invalid(errors.New("the consumer is empty"))
	case period != PeriodDefault && period != PeriodDaily && period != PeriodMonthly:
		return CostSummary{}, call.invalid(fmt.Errorf("the period %q is neither %q nor %q", period, PeriodDaily, PeriodMonthly))
	}
	return get(ctx, call, checkCosts)
}

// CostSummary reads what all consumers spent in the current month.
func (c *Client) CostSummary(ctx context.Context) (CostSummary, error) {
	return get(ctx, c.read("reading the summary of costs", c.at(nil, "api", "v1", "costs", "summary")), checkCosts)
}

// checkCosts refuses an empty object, which would mean that nothing was spent.
func checkCosts(s *CostSummary) error {
	if s.PeriodStart.IsZero() && s.PeriodEnd.IsZero() {
		return errors.New("it has no period")
	}
	return nil
}

// Templates lists the Vast.ai templates. It doesn't retry a 500, which means that Vast.ai isn't configured.
func (c *Client) Templates(ctx context.Context) ([]Template, error) {
	call := c.read("listing templates", c.at(nil, "api", "v1", "templates"))
	call.keep500 = true
	answer, err := get(ctx, call, func(a *templateList) error {
		if a.Templates == nil && a.Count != 0 {
			return errors.New("it has no templates")
		}
		for i := range a.Templates {
			a.Templates[i].toUTC()
		}
		return nil
	})
	return answer.Templates, err
}

type templateList struct {
	Templates []Template `json:"templates"`
	Count     int        `json:"count"`
}

// Template reads one Vast.ai template.
func (c *Client) Template(ctx context.Context, hashID string) (Template, error) {
	call := c.read(about("reading template", hashID), c.at(nil, "api", "v1", "templates", hashID))
	call.keep500 = true
	return getByID(ctx, call, "template", hashID, func(t *Template) string { return t.HashID })
}

// CompatibleTemplates lists the templates that an offer can run; it returns none outside Vast.ai.
func (c *Client) CompatibleTemplates(ctx context.Context, offerID string) ([]CompatibleTemplate, error) {
	call := c.read(about("listing the templates for offer", offerID), c.at(nil, "api", "v1", "inventory", offerID, "compatible-templates"))
	call.keep500 = true
	type list struct {
		OfferID   string               `json:"offer_id"`
		Templates []CompatibleTemplate `json:"compatible_templates"`
	}
	answer, err := getByID(ctx, call, "offer", offerID, func(a *list) string { return a.OfferID })
	return answer.Templates, err
}
