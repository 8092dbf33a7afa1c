package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// TestE2EModuleTest runs the example of how people test their modules, as the
// guide says: against a sandbox of its own, which misbehaves the second time.
func TestE2EModuleTest(t *testing.T) {
	t.Parallel()
	example := filepath.Join("..", "..", "examples", "module-test")
	w := newWorld(t, "-offers", "")
	s := w.newStack(t, "module")
	if err := os.CopyFS(s.dir, os.DirFS(example)); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "SHOPPER_URL="+w.url)
	says(t, s.must(t, 0, "test", "-no-color"), "4 passed, 0 failed")
	if rented := len(w.ledger(t).Rentals); rented != 1 {
		t.Errorf("%d machines rented, want 1 for all that was tested", rented)
	}

	data, err := os.ReadFile(filepath.Join(example, "faults.json"))
	if err != nil {
		t.Fatal(err)
	}
	var faults []sandbox.Rule
	if err := json.Unmarshal(data, &faults); err != nil {
		t.Fatal(err)
	}
	w.faults(t, faults...)
	says(t, s.must(t, 0, "test", "-no-color"), "4 passed, 0 failed")
	w.struck(t)
	var text struct{ Billing []any }
	w.ask(t, http.MethodGet, "/sandbox/ledger", nil, &text)
	if text.Billing == nil || len(text.Billing) != 0 {
		t.Errorf("the ledger that the guide looks at: %v", text.Billing)
	}
}
