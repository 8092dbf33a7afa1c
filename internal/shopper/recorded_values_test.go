package shopper

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// recordedTime reads a time of the recordings; the zero time never equals one.
func recordedTime(text string) time.Time {
	moment, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return moment
}

// retriedSession is the recorded session that the service replaced by itself.
func retriedSession() Session {
	return Session{
		ID: "60354e61-3635-4524-9d6d-701ca3d498a2", ConsumerID: "c7", Cloud: "vastai", GPUType: "H100 SXM5", GPUCount: 1,
		Status: Failed, Error: "SSH verification timeout", SSHHost: "127.0.0.1", SSHPort: 45367, SSHUser: "root",
		WorkloadType: WorkloadLLMVLLM, ReservationHours: 1, PricePerHour: 3.51,
		CreatedAt: recordedTime("2026-11-23T05:50:09.521925253Z"), ExpiresAt: recordedTime("2026-11-23T06:50:09.521925253Z"),
		AutoRetry: true, RetryChildID: "c9ed6c06-4de3-462f-83f9-041b8df502a3",
	}
}

// TestRecordedValues states by hand what the most important recordings contain;
// TestRecordings proves that nothing is lost in any of them.
func TestRecordedValues(t *testing.T) {
	t.Parallel()
	child := retriedSession()
	child.ID, child.Status, child.Error, child.SSHPort = child.RetryChildID, Running, "", 41357
	child.RetryChildID, child.RetryParentID = "", retriedSession().ID
	child.PricePerHour = 3.52
	child.CreatedAt, child.ExpiresAt = recordedTime("2026-11-23T05:50:29.792300428Z"), recordedTime("2026-11-23T06:50:29.792300428Z")
	values := map[string]any{
		"create_ok": Created{
			Session: Session{
				ID: "aaf49b51-3c8d-4989-88e2-a8f13a3075dc", ConsumerID: "c1", Cloud: "vastai", GPUType: "RTX 4090", GPUCount: 1,
				Status: Provisioning, SSHHost: "127.0.0.1", SSHPort: 42977, SSHUser: "root", DiskGB: 80,
				WorkloadType: WorkloadLLMVLLM, ReservationHours: 1, PricePerHour: 0.4,
				CreatedAt: recordedTime("2026-11-23T05:49:30.322394756Z"), ExpiresAt: recordedTime("2026-11-23T06:49:30.322394756Z"),
			},
			PrivateKey: "<PKCS#1 PEM RSA-4096 private key>",
		},
		"get_failed_with_retry_child": retriedSession(),
		"get_retry_child":             child,
		"offer_get": Offer{
			ID: "vastai-101", Cloud: "vastai", CloudID: "101", GPUType: "RTX 4090", GPUCount: 2, VRAMGB: 24, PricePerHour: 0.75,
			Location: "US-West", Reliability: 0.99, Available: true, FetchedAt: recordedTime("2026-11-23T05:49:30.063454315Z"),
			AvailabilityConfidence: 1, CUDAVersion: 12.9, MachineID: "9001",
		},
		"health_not_ready": Health{
			Status:   "unavailable",
			Services: map[string]string{"inventory": "ok", "lifecycle": "running", "ready": "false"},
		},
		"not_ready":    false,
		"ready":        true,
		"extend_ok":    recordedTime("2026-11-23T08:49:30.322394756Z"),
		"list_none":    []Session{},
		"cost_session": SessionCost{SessionID: "aaf49b51-3c8d-4989-88e2-a8f13a3075dc", Currency: "USD"},
		"cost_consumer": CostSummary{
			ConsumerID: "c1", PeriodStart: recordedTime("2026-11-01T00:00:00Z"), PeriodEnd: recordedTime("2026-12-01T00:00:00Z"),
		},
	}
	seen := 0
	for _, r := range readRecordings(t) {
		want, ok := values[r.Name]
		if !ok {
			continue
		}
		seen++
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			got, err := r.replay(t)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if seen != len(values) {
		t.Errorf("%d of %d recordings were found", seen, len(values))
	}
}
