package shopper

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Health is how the service says it is. Not being well is an answer, not an
// error.
type Health struct {
	Status   string            `json:"status"` // "ok" or "unavailable"
	Services map[string]string `json:"services"`
}

// Readiness is false while the service looks for machines left over from an
// earlier run of itself; the other routes answer meanwhile.
type Readiness struct{ Ready bool }

// SessionCost is what one session has cost so far.
type SessionCost struct {
	SessionID string  `json:"session_id"`
	TotalCost float64 `json:"total_cost"`
	Currency  string  `json:"currency"`
}

// Period selects what a consumer's costs are summed over.
type Period string

// The periods that the service knows.
const (
	PeriodDefault Period = "" // the current month
	PeriodDaily   Period = "daily"
	PeriodMonthly Period = "monthly"
)

// CostSummary is what a consumer, or everybody, has spent in a period. Amounts
// are in USD.
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

// Health reads how the service is. A 503 that says so is an answer.
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

// Ready reads whether the service has started up. A 503 that says that it
// hasn't is an answer.
func (c *Client) Ready(ctx context.Context) (Readiness, error) {
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
	if err != nil {
		return Readiness{}, err
	}
	return Readiness{Ready: *answer.Ready}, nil
}

// SessionCost reads what a session has cost so far.
func (c *Client) SessionCost(ctx context.Context, sessionID string) (SessionCost, error) {
	call := c.read(about("reading the cost of session", sessionID), c.at(url.Values{"session_id": {sessionID}}, "api", "v1", "costs"))
	if err := ValidateID(sessionID); err != nil {
		return SessionCost{}, call.invalid(err)
	}
	return get(ctx, call, func(cost *SessionCost) error {
		if cost.SessionID != sessionID {
			return fmt.Errorf("it is about session %q", c.clean(cost.SessionID, maxExcerptBytes))
		}
		return nil
	})
}

// ConsumerCost reads what one consumer has spent in a period.
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

// CostSummary reads what all consumers have spent in the current month.
func (c *Client) CostSummary(ctx context.Context) (CostSummary, error) {
	return get(ctx, c.read("reading the summary of costs", c.at(nil, "api", "v1", "costs", "summary")), checkCosts)
}

// checkCosts keeps an empty object from reading as "nothing was spent".
func checkCosts(s *CostSummary) error {
	if s.PeriodStart.IsZero() && s.PeriodEnd.IsZero() {
		return errors.New("it has no period")
	}
	return nil
}

// Templates lists the Vast.ai templates. The service answers 500 where that
// cloud isn't configured, so a 500 is not repeated here.
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
	if err := ValidateID(hashID); err != nil {
		return Template{}, call.invalid(err)
	}
	return get(ctx, call, func(t *Template) error {
		if t.HashID != hashID {
			return fmt.Errorf("it is about template %q", c.clean(t.HashID, maxExcerptBytes))
		}
		return nil
	})
}

// CompatibleTemplates lists the templates that an offer can run; none outside
// Vast.ai.
func (c *Client) CompatibleTemplates(ctx context.Context, offerID string) ([]CompatibleTemplate, error) {
	call := c.read(about("listing the templates for offer", offerID), c.at(nil, "api", "v1", "inventory", offerID, "compatible-templates"))
	call.keep500 = true
	if err := ValidateID(offerID); err != nil {
		return nil, call.invalid(err)
	}
	type list struct {
		OfferID   string               `json:"offer_id"`
		Templates []CompatibleTemplate `json:"compatible_templates"`
	}
	answer, err := get(ctx, call, func(a *list) error {
		if a.OfferID != offerID {
			return fmt.Errorf("it is about offer %q", c.clean(a.OfferID, maxExcerptBytes))
		}
		return nil
	})
	return answer.Templates, err
}
