package diagnostic_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const fallback = "Could not do it"

var (
	session = shopper.Session{
		ID: "s-1", Status: shopper.Running, PricePerHour: 0.31, GPUCount: 1, GPUType: "RTX A5000", Cloud: "bluelobster",
		CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), ExpiresAt: time.Date(2026, 1, 2, 4, 4, 5, 0, time.UTC),
	}
	offer  = shopper.Offer{ID: "bluelobster-1", PricePerHour: 0.31, Cloud: "bluelobster", GPUType: "RTX A5000", GPUCount: 1}
	answer = &shopper.Error{
		Op: "creating a session", Method: "POST", URL: "http://shopper:8080", Path: "/api/v1/sessions", Status: 503,
		Type: "provision_failed", Message: "the cloud refused", RequestID: "req-4711", Attempts: 1,
	}
	silence = &shopper.Error{
		Op: "listing offers", Method: "GET", URL: "http://shopper:8080", Path: "/api/v1/inventory", Attempts: 5,
		Err: errors.New("connection refused"),
	}
	denied     = &shopper.Error{Op: "listing offers", Method: "GET", URL: "http://shopper:8080", Path: "/x", Status: 401, Message: "no token"}
	unusable   = &rental.UnusableError{SessionID: "s-1", Reason: "it never became ready", Err: answer}
	unreleased = &rental.NotReleasedError{SessionID: "s-1", Last: session, Err: answer}
	canceled   = &rental.CanceledError{SessionID: "s-1", Err: context.Canceled}
)

func machine(kind host.Kind, detail string) error {
	return &host.Error{Op: "connect to", Addr: "192.0.2.1:22", Kind: kind, Detail: detail, Err: errors.New("the cause")}
}

// Each error has its own summary, and a detail that says what the service or
// the machine said, what still costs money, and what to do.
func TestErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		err     error
		summary string
		detail  []string
	}{
		{
			"kept", &rental.KeptError{Cause: unusable, Release: unreleased}, "Machine could not be released",
			[]string{"s-1", "$0.31 an hour", "Run destroy again", "req-4711"},
		},
		{"not released", unreleased, "Session was not released", []string{"s-1", "$0.31 an hour", "2026-01-02T04:04:05Z", "Run destroy again"}},
		{
			"in doubt", &rental.DoubtError{Cause: answer, Mark: rental.Mark{Consumer: "c", Name: "n", Token: "t"}, Err: silence},
			"A machine may have been rented",
			[]string{"c/n/t", "looks for it again", "req-4711"},
		},
		{
			"conflict", &rental.ConflictError{Name: "n", Sessions: []shopper.Session{session}}, "Name is already in use",
			[]string{"s-1", "$0.31/h", "2026-01-02T03:04:05Z", "Import it", `on_conflict = "replace"`},
		},
		{
			"budget", &rental.BudgetError{Ceiling: 1, Spent: 0.9, Price: 0.31, Sessions: 2}, "Budget would be exceeded",
			[]string{"$1.00 an hour", "$0.31", "Destroy a session", "budget.max_price_per_hour"},
		},
		{
			"attempts", &rental.AttemptsError{Attempts: []rental.Attempt{{Offer: offer, Err: answer}, {Offer: offer, Err: unusable}}},
			"No machine could be rented",
			[]string{"2 offers were tried", "bluelobster-1 ($0.31/h)", "req-4711", "s-1"},
		},
		{"no offer", &rental.NoOfferError{Total: 1, Rejected: []rental.Rejection{{
			Offer: offer, Requirements: []string{"min_vram_gb"}, Reasons: []string{"each GPU has 23 GB"},
		}}}, "No offer fits", []string{"min_vram_gb: 1 of 1", "Closest", "bluelobster-1", "23 GB"}},
		{"that offer", &rental.NoOfferError{OfferID: "x-1", Err: answer}, "No offer fits", []string{"x-1", "shopper_gpu_offers"}},
		{
			"not ready", &rental.NotReadyError{URL: "http://shopper:8080", Waited: time.Minute}, "Shopper is not ready",
			[]string{"http://shopper:8080", "1m0s"},
		},
		{
			"not extended", &rental.ExtendError{SessionID: "s-1", Wanted: 3, Read: 1, Ask: answer}, "Reservation was not extended",
			[]string{"s-1", "3 hours", "is reserved for 1", "req-4711"},
		},
		{"unusable", unusable, "Machine could not be used", []string{"s-1", "never became ready", "req-4711"}},
		{"interrupted", canceled, "Interrupted", []string{"s-1", "released", "no longer costs"}},
		{
			"interrupted early", &rental.CanceledError{Err: context.Canceled}, "Interrupted",
			[]string{"before a machine was requested", "Nothing was rented"},
		},
		{
			"name used twice", &rental.ConflictError{Name: "n", Here: true}, "Name is already in use",
			[]string{`"n"`, "Another resource", "nothing was rented", "a unique name"},
		},
		{"journal", &journal.Error{Dir: "/d", Err: errors.New("read-only")}, fallback, []string{"/d", "read-only"}},

		{"answer", answer, fallback, []string{"the cloud refused", "req-4711", "503"}},
		{"ambiguous", &shopper.AmbiguousError{Err: answer}, fallback, []string{"req-4711"}},
		{"unreachable", silence, "Shopper can't be reached", []string{"http://shopper:8080", "/api/v1/inventory", "connection refused", "SHOPPER_URL sets"}},
		{"denied", denied, "Shopper refused the credentials", []string{"401", "no token"}},

		{"machine away", machine(host.Unreachable, "Look at it."), "Machine can't be reached", []string{"192.0.2.1:22", "the cause", "Look at it."}},
		{"host key", machine(host.HostKeyChanged, "Compare it."), "Host key has changed", []string{"192.0.2.1:22", "Compare it."}},
		{"login", machine(host.AuthFailed, "Add the key."), "Machine refused the login", []string{"192.0.2.1:22", "Add the key."}},
		{"lost", machine(host.Lost, ""), fallback, []string{"192.0.2.1:22", "the cause"}},

		{"server", &deploy.Error{
			Phase: deploy.PhaseLoad, Summary: "The context is too long", Detail: "vLLM ended.", Cause: "Too long.", WayOut: "Ask for less.",
			Log: []string{"ValueError: 200000 > 32768"}, Started: true, Remains: "The container vllm-8000 is left.",
		}, "The context is too long", []string{"Too long.", "Ask for less.", "200000 > 32768", "vllm-8000 is left"}},

		{"canceled", fmt.Errorf("waiting: %w", context.Canceled), "Interrupted", []string{"Waiting: context canceled."}},
		{"late", fmt.Errorf("waiting: %w", context.DeadlineExceeded), fallback + " in time", []string{"deadline exceeded"}},
		{"anything", errors.New("something else"), fallback, []string{"Something else."}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for severity, d := range map[diag.Severity]diag.Diagnostic{
				diag.SeverityError: diagnostic.Error(fallback, test.err), diag.SeverityWarning: diagnostic.Warning(fallback, test.err),
			} {
				if d.Severity() != severity {
					t.Errorf("severity %s, want %s", d.Severity(), severity)
				}
				if d.Summary() != test.summary {
					t.Errorf("summary %q, want %q", d.Summary(), test.summary)
				}
				if words := strings.Fields(d.Summary()); len(words) > 6 || strings.HasSuffix(d.Summary(), ".") {
					t.Errorf("summary %q is no summary", d.Summary())
				}
				for _, want := range test.detail {
					if !strings.Contains(d.Detail(), want) {
						t.Errorf("want %q in %q", want, d.Detail())
					}
				}
				if detail := d.Detail(); strings.ToUpper(detail[:1]) != detail[:1] {
					t.Errorf("detail %q begins in the middle", detail)
				}
			}
		})
	}
}

// A cancel and a failure are distinguished, however deep they are.
func TestCancelIsNoFailure(t *testing.T) {
	t.Parallel()
	cancel := fmt.Errorf("a: %w", &shopper.Error{Op: "reading", Method: "GET", Path: "/x", URL: "http://s", Err: context.Canceled})
	if d := diagnostic.Error(fallback, cancel); d.Summary() != "Interrupted" {
		t.Errorf("a canceled request reads %q", d.Summary())
	}
	late := fmt.Errorf("a: %w", &host.Error{Op: "run a command on", Addr: "m:22", Kind: host.Interrupted, Err: context.DeadlineExceeded})
	if d := diagnostic.Error(fallback, late); d.Summary() != fallback+" in time" {
		t.Errorf("a deadline reads %q", d.Summary())
	}
	stopped := fmt.Errorf("a: %w", &deploy.Error{Phase: deploy.PhaseLoad, Summary: "Interrupted while loading", Err: context.Canceled})
	if d := diagnostic.Error(fallback, stopped); !strings.Contains(d.Summary(), "Interrupted") {
		t.Errorf("a canceled launch reads %q", d.Summary())
	}
}

func TestRecover(t *testing.T) {
	t.Parallel()
	var diags diag.Diagnostics
	func() {
		defer diagnostic.Recover(t.Context(), &diags, "renting a machine")
		nothing := map[string]map[string]int{}
		nothing["x"]["y"]++
	}()
	if len(diags) != 1 || diags[0].Summary() != "The provider has a defect" ||
		!strings.Contains(diags[0].Detail(), "while renting a machine") || !strings.Contains(diags[0].Detail(), "nil map") {
		t.Errorf("got %v", diags)
	}
	func() {
		defer diagnostic.Recover(t.Context(), &diags, "nothing")
	}()
	if len(diags) != 1 {
		t.Errorf("no panic left %v", diags)
	}
}
