package costs

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sessionview"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// most bounds how many requests are under way at once.
const most = 8

// consumerCost adds up what a consumer's sessions have cost in a period. To the shopper, each session that this provider
// rented has a separate consumer, its mark. The cost of the bare name is that of sessions rented by something else.
func consumerCost(ctx context.Context, client *shopper.Client, consumer string, period shopper.Period) (shopper.CostSummary, error) {
	sum, err := client.ConsumerCost(ctx, consumer, period)
	if err != nil || rental.ValidateName(consumer) != nil { // the consumer is a mark
		return sum, err
	}
	sessions, err := sessionview.Since(ctx, client, sum.PeriodStart)
	if err != nil {
		return sum, err
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(most)
	asked := map[string]bool{} // a rental that the shopper has repeated has the same mark
	for _, s := range sessions {
		mark, ok := rental.ParseMark(s.ConsumerID)
		if !ok || mark.Consumer != consumer || asked[s.ConsumerID] {
			continue
		}
		asked[s.ConsumerID] = true
		group.Go(func() error {
			part, err := client.ConsumerCost(ctx, s.ConsumerID, period)
			if err != nil {
				return err // a sum without it would be wrong
			}
			mu.Lock()
			defer mu.Unlock()
			add(&sum, part)
			return nil
		})
	}
	err = group.Wait()
	return sum, err
}

func add(sum *shopper.CostSummary, part shopper.CostSummary) {
	sum.TotalCost += part.TotalCost
	sum.SessionCount += part.SessionCount
	sum.HoursUsed += part.HoursUsed
	sum.ByCloud = plus(sum.ByCloud, part.ByCloud)
	sum.ByGPUType = plus(sum.ByGPUType, part.ByGPUType)
}

func plus(sum, part map[string]float64) map[string]float64 {
	if sum == nil {
		sum = map[string]float64{}
	}
	for name, amount := range part {
		sum[name] += amount
	}
	return sum
}
