package rental

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// slowLists answers the first list only when its request is canceled.
type slowLists struct {
	Service
	lists int
}

func (s *slowLists) Sessions(ctx context.Context, _ shopper.SessionFilter) ([]shopper.Session, error) {
	if s.lists++; s.lists == 1 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return []shopper.Session{{ID: "s", Status: shopper.Running}}, nil
}

// A wait that is canceled while it asks for the list of all is no failure of the others.
func TestACanceledWaitFailsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(&slowLists{})
		defer w.enter()()
		defer w.enter()()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = w.session(ctx, "other") }()
		synctest.Wait()
		go func() {
			synctest.Wait()
			cancel()
		}()
		if session, err := w.session(t.Context(), "s"); err != nil || session.Status != shopper.Running {
			t.Errorf("%+v, %v", session, err)
		}
	})
}
