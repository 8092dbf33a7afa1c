package provider_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// What people do behind Terraform's back.

// limit bounds every wait of a test.
const limit = time.Minute

// token makes a mark of a rental's consumer and name.
const token = "0123456789abcdef0123456789abcdef"

func (w *world) client(t *testing.T) *shopper.Client {
	t.Helper()
	client, err := shopper.New(shopper.Config{URL: w.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// rentByHand rents a machine and waits until it runs.
func (w *world) rentByHand(t *testing.T, offer, consumer string) shopper.Session {
	t.Helper()
	client := w.client(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	created, err := client.CreateSession(ctx, shopper.CreateSession{
		ConsumerID: consumer, OfferID: offer, WorkloadType: shopper.WorkloadLLMVLLM, ReservationHours: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	session := created.Session
	testkit.Eventually(t, "the session to run", func() bool {
		session, err = client.Session(ctx, created.Session.ID)
		return err == nil && session.Status == shopper.Running
	})
	return session
}

// releaseByHand releases whatever is rented.
func (w *world) releaseByHand(t *testing.T) {
	t.Helper()
	client := w.client(t)
	for _, rental := range w.Ledger().Billing {
		if err := client.Delete(t.Context(), rental.SessionID); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "the machines to be released", func() bool { return w.nothingBills(nil) == nil })
}

// docker sends a request to a machine's container engine, as a user who is logged in would.
func docker(t *testing.T, m *machine.Machine, method, path string) {
	t.Helper()
	dialer := net.Dialer{}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", m.Root().DockerSocket())
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://docker/v1.44"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		t.Fatal(fmt.Errorf("%s %s: %s", method, path, resp.Status))
	}
}
