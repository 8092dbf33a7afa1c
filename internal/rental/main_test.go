package rental

import (
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

func TestMain(m *testing.M) {
	if os.Getenv(holderVariable) != "" {
		os.Exit(holder())
	}
	sandbox.Main()
	http.DefaultTransport.(*http.Transport).DisableKeepAlives = true
	goleak.VerifyTestMain(m)
}
