package provider_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
)

// inParallel is how many acceptance tests run at a time: they wait for machines
// and for the CLI more than they work.
const inParallel = "4"

// TestMain is also the main function of the sandbox machines' programs.
func TestMain(m *testing.M) {
	sandbox.Main()
	maybeVLLM()
	flag.Parse()
	for name, value := range map[string]string{"test.parallel": inParallel} {
		if err := flag.Set(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	// No settings of the user, and no network: the CLI would look for its newest release.
	for _, name := range []string{
		"SHOPPER_URL", "SHOPPER_TOKEN", "SHOPPER_CONSUMER_ID", "SHOPPER_SSH_PRIVATE_KEY", "SSH_AUTH_SOCK",
		"TF_CLI_CONFIG_FILE", "TF_DATA_DIR", "TF_PLUGIN_CACHE_DIR",
	} {
		if err := os.Unsetenv(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := os.Setenv("CHECKPOINT_DISABLE", "1"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// The plugin library's test server sometimes leaves the readers of its standard streams behind.
	library := goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.copyChan")
	goleak.VerifyTestMain(m, library, goleak.Cleanup(func(code int) {
		if err := machine.Finish(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		os.Exit(code)
	}))
}
