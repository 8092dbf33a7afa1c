package shopper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// Session reads one session. A session stays readable after its end, with the status Stopped.
func (c *Client) Session(ctx context.Context, id string) (Session, error) {
	call := c.read(about("reading session", id), c.at(nil, "api", "v1", "sessions", id))
	if err := ValidateID(id); err != nil {
		return Session{}, call.invalid(err)
	}
	return get(ctx, call, func(s *Session) error {
		switch {
		case s.ID != id:
			return fmt.Errorf("it is about session %q", c.clean(s.ID, maxExcerptBytes))
		case s.Status == "":
			return errors.New("it has no status")
		}
		return nil
	})
}

// Sessions lists sessions, newest first, ended ones included. Where the list would be incomplete, it returns an error: see
// SessionFilter.Limit.
func (c *Client) Sessions(ctx context.Context, filter SessionFilter) ([]Session, error) {
	limit := MaxSessions + 1 // one more, to detect that there are more
	if filter.Limit > 0 {
		limit = filter.Limit
	}
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	set(query, "consumer_id", filter.ConsumerID)
	set(query, "status", string(filter.Status))
	set(query, "provider", filter.Cloud)
	call := c.read("listing sessions", c.at(query, "api", "v1", "sessions"))
	if filter.Limit < 0 || filter.Limit > MaxSessions {
		return nil, call.invalid(fmt.Errorf("the limit is %d, it must be between 0 and %d", filter.Limit, MaxSessions))
	}
	list, err := get(ctx, call, func(list *sessionList) error { return list.check() })
	if err != nil {
		return nil, err
	}
	if filter.Limit == 0 && len(list.sessions) > MaxSessions {
		return nil, call.tooMany(MaxSessions, "sessions: request only one consumer or status")
	}
	listed := len(list.sessions)
	// The caller may destroy what is listed, so a filter that a proxy has ignored must not show it other people's sessions.
	matching := slices.DeleteFunc(list.sessions, func(s Session) bool {
		return filter.ConsumerID != "" && filter.ConsumerID != s.ConsumerID ||
			filter.Status != "" && filter.Status != s.Status ||
			filter.Cloud != "" && filter.Cloud != s.Cloud
	})
	if len(matching) < limit && listed >= limit {
		return nil, call.failure(&Error{Status: http.StatusOK, Err: fmt.Errorf(
			"the list of %d sessions contains some that were not requested, and may omit some that were", listed)})
	}
	return matching[:min(len(matching), limit)], nil
}

// sessionList is checked strictly, because an empty list counts as proof that nothing is rented.
type sessionList struct {
	Raw   json.RawMessage `json:"sessions"`
	Count *int            `json:"count"`

	sessions []Session
}

func (l *sessionList) check() error {
	if l.Raw == nil {
		return errors.New("it has no sessions")
	}
	if err := json.Unmarshal(l.Raw, &l.sessions); err != nil {
		return err
	}
	if l.Count != nil && *l.Count != len(l.sessions) {
		return fmt.Errorf("it counts %d sessions and holds %d", *l.Count, len(l.sessions))
	}
	for i := range l.sessions {
		session := &l.sessions[i]
		if session.ID == "" || session.Status == "" {
			return fmt.Errorf("its session %d has no ID or no status", i+1)
		}
		session.toUTC()
	}
	return nil
}

// Diagnostics reads what the service reports about a running session. For any other session the service answers 400.
func (c *Client) Diagnostics(ctx context.Context, id string) (Diagnostics, error) {
	call := c.read(about("reading the diagnostics of session", id), c.at(nil, "api", "v1", "sessions", id, "diagnostics"))
	return getByID(ctx, call, "session", id, func(d *Diagnostics) string { return d.SessionID })
}

// Offers lists the offers of one cloud, or of all clouds for "". It sends no other filter, because the service's cache returns one
// caller's filtered list to another caller: filter the result.
func (c *Client) Offers(ctx context.Context, cloud string) ([]Offer, error) {
	var offers []Offer
	seen := map[string]bool{}
	for offset := 0; ; {
		query := url.Values{}
		set(query, "provider", cloud)
		if offset > 0 {
			query.Set("offset", strconv.Itoa(offset))
		}
		call := c.read("listing offers", c.at(query, "api", "v1", "inventory"))
		page, err := get(ctx, call, func(page *offerPage) error { return page.check() })
		if err != nil {
			return nil, err
		}
		for _, offer := range page.offers {
			if !seen[offer.ID] && (cloud == "" || cloud == offer.Cloud) {
				seen[offer.ID] = true
				offers = append(offers, offer)
			}
		}
		offset += len(page.offers)
		if len(offers) > MaxOffers {
			return nil, call.tooMany(MaxOffers, "offers: request only one cloud")
		}
		// The service sends all offers at once; a version that pages would have a higher total.
		if len(page.offers) == 0 || offset >= page.Total {
			return offers, nil
		}
	}
}

type offerPage struct {
	Raw   json.RawMessage `json:"offers"`
	Total int             `json:"total"`

	offers []Offer
}

func (p *offerPage) check() error {
	if p.Raw == nil {
		return errors.New("it has no offers")
	}
	if err := json.Unmarshal(p.Raw, &p.offers); err != nil {
		return err
	}
	for i := range p.offers {
		if p.offers[i].ID == "" {
			return fmt.Errorf("its offer %d has no ID", i+1)
		}
		p.offers[i].toUTC()
	}
	return nil
}

// Offer reads one offer. IsNotFound is true for the error when it is gone.
func (c *Client) Offer(ctx context.Context, id string) (Offer, error) {
	call := c.read(about("reading offer", id), c.at(nil, "api", "v1", "inventory", id))
	return getByID(ctx, call, "offer", id, func(o *Offer) string { return o.ID })
}

// OfferHealth reads which offers and GPU types have failed recently.
func (c *Client) OfferHealth(ctx context.Context) (FailureReport, error) {
	return get[FailureReport](ctx, c.read("reading the offers' health", c.at(nil, "api", "v1", "offer-health")), nil)
}

// tooMany returns the error for a list that is longer than the limit.
func (c *call) tooMany(limit int, what string) *Error {
	return c.failure(&Error{Status: http.StatusOK, Err: fmt.Errorf("there are more than %d %s", limit, what)})
}

// set sets a query's value, unless it is "", which matches everything.
func set(query url.Values, name, value string) {
	if value != "" {
		query.Set(name, value)
	}
}
