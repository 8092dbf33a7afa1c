package rental

import (
	"sync"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// budget keeps the summed price of a consumer's live sessions below a ceiling.
// What this process is about to rent, or has rented, counts from the moment it
// decides to, so that rentals made side by side don't each find room for one.
// Other processes, provider aliases among them, are seen only in what they have
// rented: so each looks again after renting, and the newest gives way.
type budget struct {
	ceiling float64 // USD per hour; 0 = none

	mu    sync.Mutex
	spent map[string]float64 // of this process, in USD per hour, by mark
}

// reserve refuses a rental that would break the ceiling, and otherwise counts it
// until drop. live are the consumer's sessions.
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

// check counts the price that is really paid from now on, and refuses it where the
// ceiling leaves no room for it beside all older sessions; or beside all others,
// where it is more than was reserved.
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
			sum += max(s.PricePerHour, b.spent[s.ConsumerID]) // what is read may be less than what is paid
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

// isOlder orders sessions of one service by when they were made.
func isOlder(a, b shopper.Session) bool {
	if !a.CreatedAt.Equal(b.CreatedAt) {
		return a.CreatedAt.Before(b.CreatedAt)
	}
	return a.ID < b.ID
}
