package rental

import (
	"cmp"
	"sync"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// budget keeps the total price of a consumer's live sessions below a ceiling. A rental of this process counts from reserve on, so
// that concurrent rentals don't each count on the same remaining budget. Rentals of other processes, such as provider aliases,
// count once they are sessions: so each process checks again after renting, and the newest session gives way.
type budget struct {
	ceiling float64 // USD per hour; 0 = none

	mu    sync.Mutex
	spent map[string]float64 // of this process, in USD per hour, by mark
}

// reserve counts a rental until drop, or returns a *BudgetError where it would exceed the ceiling. live are the consumer's sessions.
func (b *budget) reserve(mark Mark, price float64, live []shopper.Session) error {
	if b.ceiling <= 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := 0.0
	for _, s := range live {
		if _, ours := b.spent[s.ConsumerID]; !ours {
			sum += s.PricePerHour
		}
	}
	for _, spent := range b.spent {
		sum += spent
	}
	if sum+price > b.ceiling+priceTolerance {
		return &BudgetError{Ceiling: b.ceiling, Spent: sum, Price: price, Sessions: len(live)}
	}
	b.spent[mark.String()] = price
	return nil
}

// check counts the session's actual price from now on. It returns a *BudgetError where that and all older sessions exceed the
// ceiling; all other sessions count where the price is more than was reserved.
func (b *budget) check(session shopper.Session, live []shopper.Session) error {
	if b.ceiling <= 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	dearer := session.PricePerHour > b.spent[session.ConsumerID]+priceTolerance
	b.spent[session.ConsumerID] = session.PricePerHour
	sum, others := 0.0, 0
	for _, s := range live {
		if s.ID != session.ID && (dearer || isOlder(s, session)) {
			sum += max(s.PricePerHour, b.spent[s.ConsumerID]) // a list may show less than the actual price
			others++
		}
	}
	if sum+session.PricePerHour > b.ceiling+priceTolerance {
		return &BudgetError{Ceiling: b.ceiling, Spent: sum, Price: session.PricePerHour, Sessions: others}
	}
	return nil
}

func (b *budget) drop(mark Mark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.spent, mark.String())
}

// isOlder reports whether a was created before b, by the service's clock.
func isOlder(a, b shopper.Session) bool {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) < 0
}
