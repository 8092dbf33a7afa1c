package lifecycle_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// A finished server of the same owner may be another deployment's that was given the same port: it isn't touched for a
// new one's sake, unless it is just what is wanted.
func TestFinishedServerOfTheSameOwnerIsNotTouched(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		status := launch(t, r, request())
		other := request()
		other.Spec.APIKey = "another-key-entirely"
		_, err := lifecycle.Launch(within(t, limit), r, other)
		failed := wantError(t, r, err)
		contains(t, failed.Description(), "already has a server with this name and port", "another port")
		if failed.Summary != "Another server has this name and port" || r.servers(t) != 1 {
			t.Errorf("%q; %d servers", failed.Summary, r.servers(t))
		}
		if err := answers(t, r, status, testKey); err != nil {
			t.Error(err)
		}
		if again := launch(t, r, request()); again.ID != status.ID {
			t.Error("what is just what is wanted was not taken over")
		}
		found, err := lifecycle.Find(within(t, limit), r, status.Ref)
		if err != nil || len(found) != 1 || found[0].ID != status.ID {
			t.Errorf("found %+v, %v", found, err)
		}
		remove(t, r, status)
	})
}

// How long a server may take to answer is counted from its start, and the error says what ran out.
func TestReadyTimeout(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Load = time.Hour })
		wanted := request()
		wanted.ReadyTimeout = time.Second
		begun := time.Now()
		_, err := lifecycle.Launch(within(t, limit), r, wanted)
		failed := wantError(t, r, err)
		contains(t, failed.Description(), "The phase load timed out after", "Last seen")
		if failed.Phase != deploy.PhaseLoad || time.Since(begun) > limit/2 {
			t.Errorf("phase %s after %s", failed.Phase, time.Since(begun))
		}
		if n := r.servers(t); n != 0 {
			t.Errorf("%d servers are left", n)
		}
	})
}

// A server that answers on its machine but not at its public address is a failure, and is removed.
func TestPublicAddressThatIsClosed(t *testing.T) {
	t.Parallel()
	address := fmt.Sprint("127.0.0.1:", testkit.FreePort(t))
	r := newRig(t, vm())
	wanted := request()
	wanted.Public = "http://" + address
	_, err := lifecycle.Launch(within(t, limit), r, wanted)
	failed := wantError(t, r, err)
	if failed.Summary != "Server can't be reached publicly" || failed.Phase != deploy.PhaseCompletion {
		t.Errorf("%s in %s", failed.Summary, failed.Phase)
	}
	contains(t, failed.Description(), "not at "+wanted.Public, "firewall", "has been removed")
	r.clean(t)
}

// The first finding is not repeated.
func TestDescriptionSaysEachFindingOnce(t *testing.T) {
	t.Parallel()
	e := &deploy.Error{
		Phase: deploy.PhasePreflight, Summary: "Machine can't run this deployment", Err: errors.New("blocked"),
		Cause: "The port is taken.", WayOut: "Choose another one.",
		Findings: []deploy.Finding{{Fact: "The port is taken.", WayOut: "Choose another one."}},
	}
	if got, want := e.Description(), "The port is taken.\n\nChoose another one."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	e.Findings = slices.Concat(e.Findings, []deploy.Finding{{Fact: "The disk is small.", WayOut: "Make room."}})
	contains(t, e.Description(), "The port is taken.", "Other preflight findings:\n- The disk is small. Make room.")
}
