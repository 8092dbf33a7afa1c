package sandbox

import (
	"math/rand/v2"
	"slices"
)

// RandomFaults makes count rules of a seed, always the same for a seed. They are faults
// that a careful client survives without losing a machine. DestroyFails isn't one: if
// it strikes the clean-up of a failed session, the real service takes the machine for
// gone, and no client can notice.
func RandomFaults(seed int64, count int) []Rule {
	random := rand.New(rand.NewPCG(uint64(seed), 3))
	rows := slices.DeleteFunc(slices.Clone(faultTable), func(r faultRow) bool { return r.random == nil })
	rules := make([]Rule, 0, max(count, 0))
	for range count {
		row := rows[random.IntN(len(rows))]
		rule := Rule{Route: row.place, Nth: 1 + random.IntN(40), Times: 1 + random.IntN(3), Fault: row.fault}
		if row.routes != nil {
			rule.Route = row.routes[random.IntN(len(row.routes))]
		}
		rule.Value = row.random[random.IntN(len(row.random))]
		rules = append(rules, rule)
	}
	return rules
}
