package rental

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// budget keeps the summed price of a consumer's live sessions below a ceiling.
// What this process is about to rent, or has rented, counts from the moment it
// decides to, so that rentals made side by side don't each find room for one.
type budget struct {
	ceiling float64 // USD per hour; 0 = none

	mu    sync.Mutex
	spent map[string]spending // by mark
}

// spending is one rental of this process, in USD per hour.
type spending struct {
	price float64
	// others is what other processes' sessions cost when this one was reserved.
	others float64
}

// reserve refuses a rental that would break the ceiling, and otherwise counts it
// until drop.
func (b *budget) reserve(ctx context.Context, r *Renter, mark Mark, price float64) error {
	if b.ceiling <= 0 {
		return nil
	}
	live, err := r.live(ctx, func(consumerID string) bool {
		return consumerID == mark.Consumer || strings.HasPrefix(consumerID, mark.Consumer+"/")
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	others := b.othersLocked(live)
	sum := others + b.oursLocked()
	if sum+price > b.ceiling+priceTolerance {
		return &BudgetError{Ceiling: b.ceiling, Spent: sum, Price: price, Sessions: len(live)}
	}
	b.spent[mark.String()] = spending{price: price, others: others}
	return nil
}

// othersLocked sums up the sessions that this process doesn't count itself.
func (b *budget) othersLocked(live []shopper.Session) float64 {
	sum := 0.0
	for _, s := range live {
		if _, ours := b.spent[s.ConsumerID]; !ours {
			sum += s.PricePerHour
		}
	}
	return sum
}

func (b *budget) oursLocked() float64 {
	sum := 0.0
	for _, s := range b.spent {
		sum += s.price
	}
	return sum
}

// correct replaces the price a rental was reserved with by the one really paid.
func (b *budget) correct(mark Mark, price float64) error {
	if b.ceiling <= 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	reserved, counted := b.spent[mark.String()]
	if !counted {
		return nil
	}
	if price > reserved.price && reserved.others+b.oursLocked()-reserved.price+price > b.ceiling+priceTolerance {
		return fmt.Errorf("budget: it costs $%.4g an hour and not $%.4g, which breaks the provider's ceiling of $%.4g", price,
			reserved.price, b.ceiling)
	}
	b.spent[mark.String()] = spending{price: price, others: reserved.others}
	return nil
}

func (b *budget) drop(mark Mark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.spent, mark.String())
}
