package sandbox

import (
	"net/http"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// The moments of a machine come in their order, and only once they have come.
func TestMoments(t *testing.T) {
	t.Parallel()
	offers := realOffers(1)
	offers[1].Machine.VLLM.Installed = "0.33.0"
	s := startSandbox(t, Options{Machines: Friendly, Speed: 300, Offers: offers[1:]})
	begun := time.Now()
	n := rentReal(t, s, "tensordock-0")
	before, err := s.Moments(n.id)
	if err != nil || before.SSH.Before(begun) || before.Running.Before(before.SSH) || !before.Ready.IsZero() {
		t.Errorf("before a server: %+v, %v", before, err)
	}
	connection, _, err := n.login()
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	session, err := connection.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if err := session.Start("vllm serve Qwen/Qwen2.5-0.5B-Instruct"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the server", func() bool {
		conn, err := s.Machine(n.id).Root().Dial(t.Context(), 8000)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	testkit.Eventually(t, "its moment", func() bool {
		after, err := s.Moments(n.id)
		return err == nil && after.Ready.After(after.Running)
	})
	if got := n.get("/sandbox/machines/" + n.id + "/moments"); got.status != http.StatusOK || got.str("ready") == "" {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got := n.get("/sandbox/machines/nobody/moments"); got.status != http.StatusNotFound {
		t.Errorf("%d %s", got.status, got.text)
	}
}

// A minute begins with any request.
func TestBusiestMinute(t *testing.T) {
	t.Parallel()
	c, now := &requestCount{}, time.Now()
	for _, second := range []int{0, 50, 70, 80, 109, 110, 200} {
		c.times = append(c.times, now.Add(time.Duration(second)*time.Second))
	}
	if got := c.busiestMinuteLocked(); got != 4 { // 50 to 109
		t.Errorf("%d", got)
	}
}
