package sessionview

import (
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

func TestTimeLeft(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name    string
		status  shopper.Status
		expires time.Time
		want    float64
	}{
		{"running", shopper.Running, now.Add(90 * time.Minute), 1.5},
		{"to the minute", shopper.Running, now.Add(30*time.Minute + 20*time.Second), 0.5},
		{"not there yet", shopper.Provisioning, now.Add(2 * time.Hour), 2},
		{"over", shopper.Running, now.Add(-time.Minute), 0},
		{"ended before its time", shopper.Stopped, now.Add(time.Hour), 0},
		{"not reported", shopper.Running, time.Time{}, 0},
	} {
		m := fromSession(shopper.Session{Status: test.status, ExpiresAt: test.expires}, now)
		if got := m.HoursLeft.ValueFloat64(); got != test.want {
			t.Errorf("%s: %v hours left, want %v", test.name, got, test.want)
		}
		if m.ExpiresAt.IsNull() != test.expires.IsZero() {
			t.Errorf("%s: expires_at is %s", test.name, m.ExpiresAt)
		}
	}
	// UTC, wherever the service is.
	zone := time.FixedZone("east", 3*60*60)
	m := fromSession(shopper.Session{CreatedAt: now.In(zone)}, now)
	if got := m.CreatedAt.ValueString(); got != "2026-03-01T12:00:00Z" {
		t.Errorf("created_at is %s", got)
	}
}
