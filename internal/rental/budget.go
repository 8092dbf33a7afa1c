package rental

import (
	"context"
	"fmt"
	"sync"
)

// budget keeps the summed price of a consumer's live sessions below a ceiling.
// What this process is about to rent, or has rented, counts from the moment it
// decides to, so that rentals made side by side don't each find room for one.
type budget struct {
	ceiling float64 // USD per hour; 0 = none

	mu    sync.Mutex
	spent map[string]float64 // by mark
}

// reserve refuses a rental that would break the ceiling, and otherwise counts it
// until drop.
func (b *budget) reserve(ctx context.Context, r *Renter, mark Mark, price float64) error {
	if b.ceiling <= 0 {
		return nil
	}
	live, err := r.active(ctx, Mark{Consumer: mark.Consumer})
	if err != nil {
		return err
	}
	listed := make(map[string]float64, len(live))
	for _, s := range live {
		listed[s.ConsumerID] += s.PricePerHour
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := 0.0
	for m, p := range listed {
		if _, ours := b.spent[m]; !ours {
			sum += p
		}
	}
	for _, p := range b.spent {
		sum += p
	}
	if sum+price > b.ceiling+priceTolerance {
		return &BudgetError{Ceiling: b.ceiling, Spent: sum, Price: price, Sessions: len(live)}
	}
	b.spent[mark.String()] = price
	return nil
}

// correct replaces the price a rental was reserved with by the one really paid.
func (b *budget) correct(mark Mark, price float64) error {
	if b.ceiling <= 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	reserved, counted := b.spent[mark.String()]
	if !counted || price <= reserved {
		return nil
	}
	sum := 0.0
	for _, p := range b.spent {
		sum += p
	}
	if more := sum - reserved + price; more > b.ceiling+priceTolerance {
		return fmt.Errorf("budget: it costs $%.4g an hour and not $%.4g, which breaks the provider's ceiling of $%.4g", price,
			reserved, b.ceiling)
	}
	b.spent[mark.String()] = price
	return nil
}

func (b *budget) drop(mark Mark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.spent, mark.String())
}
