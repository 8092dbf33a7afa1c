package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Rental is one machine that a cloud rented out, and its cost, as the cloud has it: a
// machine that runs bills, whatever its session's status is.
type Rental struct {
	SessionID    string     `json:"session_id"`
	ConsumerID   string     `json:"consumer_id"`
	OfferID      string     `json:"offer_id"`
	InstanceID   string     `json:"instance_id"` // the cloud's
	Cloud        string     `json:"cloud"`
	GPUType      string     `json:"gpu_type"`
	GPUCount     int        `json:"gpu_count"` // the machine's, not the offer's
	PricePerHour float64    `json:"price_per_hour"`
	RentedAt     time.Time  `json:"rented_at"`
	ReleasedAt   *time.Time `json:"released_at"` // null while it bills
	ReleasedBy   string     `json:"released_by,omitempty"`
	Billing      bool       `json:"billing"`
	Cost         float64    `json:"cost"`   // USD so far
	Status       string     `json:"status"` // the session's, as its service has it; "" = no service knows it
}

// Ledger is every rental that was ever made.
type Ledger struct {
	Billing      []Rental  `json:"billing"`
	Rentals      []Rental  `json:"rentals"`        // oldest first, including those that bill
	PricePerHour float64   `json:"price_per_hour"` // of all that bills
	TotalCost    float64   `json:"total_cost"`     // USD so far, of all
	Time         time.Time `json:"time"`
}

// Of returns the rentals of a consumer, and of consumers whose id starts with its id
// and a slash.
func (l Ledger) Of(consumer string) Ledger {
	others := func(r Rental) bool {
		return r.ConsumerID != consumer && !strings.HasPrefix(r.ConsumerID, consumer+"/")
	}
	return summed(slices.DeleteFunc(slices.Clone(l.Rentals), others), l.Time)
}

func summed(rentals []Rental, now time.Time) Ledger {
	l := Ledger{Billing: []Rental{}, Rentals: rentals, Time: now}
	for _, r := range rentals {
		l.TotalCost = round4(l.TotalCost + r.Cost)
		if r.Billing {
			l.Billing = append(l.Billing, r)
			l.PricePerHour = round4(l.PricePerHour + r.PricePerHour)
		}
	}
	return l
}

// Ledger returns the rentals of all services. After Close, it still lists what billed
// then as billing.
func (e *estate) Ledger() Ledger {
	now := e.clouds.clock.Now()
	rentals := e.clouds.rentals(now)
	for i := range rentals {
		row, _ := e.row(rentals[i].SessionID)
		rentals[i].Status = row.Status
	}
	return summed(rentals, now)
}

func (c *cloud) rentals(now time.Time) []Rental {
	c.mu.Lock()
	defer c.mu.Unlock()
	rentals := make([]Rental, 0, len(c.instances))
	for _, inst := range c.instances {
		r := Rental{
			SessionID: inst.session, ConsumerID: inst.consumer, OfferID: inst.offer.ID, InstanceID: inst.id,
			Cloud: inst.offer.Provider, GPUType: inst.offer.GPUType, GPUCount: inst.offer.Machine.GPUCount,
			PricePerHour: inst.price, RentedAt: inst.rented, ReleasedBy: inst.releasedBy, Billing: inst.released.IsZero(),
		}
		end := now
		if !r.Billing {
			end = inst.released
			r.ReleasedAt = &end
		}
		r.Cost = round4(inst.price * end.Sub(inst.rented).Hours())
		rentals = append(rentals, r)
	}
	return rentals
}

// String is the ledger as a table.
func (l Ledger) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d billing now, $%.2f per hour; %d rented in all, $%.4f so far\n",
		len(l.Billing), l.PricePerHour, len(l.Rentals), l.TotalCost)
	if len(l.Rentals) == 0 {
		return b.String()
	}
	b.WriteByte('\n')
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "BILLING\tSESSION\tSTATUS\tCONSUMER\tOFFER\tGPUS\t$/HOUR\tRENTED\tRELEASED\t$ SO FAR\tRELEASED BY")
	for _, r := range l.Rentals {
		billing, released := "yes", "-"
		if !r.Billing {
			billing, released = "no", r.ReleasedAt.Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d x %s\t%.4f\t%s\t%s\t%.4f\t%s\n", billing, r.SessionID, r.Status,
			printable(r.ConsumerID), r.OfferID, r.GPUCount, r.GPUType, r.PricePerHour, r.RentedAt.Format(time.RFC3339), released,
			r.Cost, r.ReleasedBy)
	}
	_ = table.Flush() // to memory
	return b.String()
}

// printable replaces control characters, which would spoil the table or the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
