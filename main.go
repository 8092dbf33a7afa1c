// Command terraform-provider-shopper is the Terraform and OpenTofu provider for
// cloud-gpu-shopper. Terraform starts it; people run it only with -version or
// -debug.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider"
)

// version is set by the build; see buildVersion.
var version = ""

func main() {
	debugging := flag.Bool("debug", false,
		"wait for a debugger, and print how Terraform reaches this process; SIGINT or SIGTERM ends it")
	showVersion := flag.Bool("version", false, "print the version and end")
	flag.Parse()
	if *showVersion {
		fmt.Println(buildVersion())
		return
	}

	// When Terraform is killed, the other end of this process's standard error is gone, and the next line written to it
	// would end this process too. Instead, the context of running calls ends, and they release what they have rented.
	signal.Ignore(syscall.SIGPIPE)
	collectLess()
	shopper := provider.New(buildVersion())
	err := serve(shopper, *debugging)
	// Terraform may have left tunnels open. An error of closing them is no reason to fail.
	_ = shopper.Close()
	if err != nil {
		log.Fatal(err)
	}
}

// serve returns when the process is to end: when Terraform asks for it, or with -debug on a signal.
func serve(shopper *provider.Shopper, debugging bool) error {
	const address = "registry.terraform.io/" + provider.Address
	if debugging {
		// A signal cancels the context of running calls without waiting for them. A second signal ends the process.
		defer provider.Finish()
		return tf6server.Serve(address, shopper.Server, tf6server.WithManagedDebug(),
			tf6server.WithManagedDebugStopSignals([]os.Signal{os.Interrupt, syscall.SIGTERM}))
	}
	// The plugin server ignores SIGINT, so that Terraform alone decides when a provider ends. SIGTERM to the process group,
	// as when a CI job is canceled, would end this process in the middle of a rental and lose what it rented. Ignored, it
	// has the same effect as Ctrl-C.
	signal.Ignore(syscall.SIGTERM)
	go func() {
		provider.WaitForOrphan()
		_ = shopper.Close()
		os.Exit(1)
	}()
	beQuiet()
	return tf6server.Serve(address, shopper.Server)
}

// heapLimit is the heap size above which Go collects garbage as often as by default. Together with the program's own pages
// it is less than 100 MB.
const heapLimit = 56 << 20

// collectLess trades memory for time. The provider lives as long as one Terraform command, and the framework makes up to a
// megabyte of garbage for each resource that it plans. Collecting it from a heap of a few megabytes took a quarter of its time.
func collectLess() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(400)
		debug.SetMemoryLimit(heapLimit)
	}
}

// beQuiet turns off all loggers if no TF_LOG variable is set: Terraform would read every line and drop it. A crash is still
// reported.
func beQuiet() {
	for _, variable := range os.Environ() {
		if strings.HasPrefix(variable, "TF_LOG") {
			return
		}
	}
	for _, name := range []string{"TF_LOG_PROVIDER_SHOPPER", "TF_LOG_SDK", "TF_LOG_SDK_PROTO", "TF_LOG_SDK_FRAMEWORK"} {
		_ = os.Setenv(name, "OFF") // on an error terraform-plugin-log keeps logging, which does no harm
	}
}

// buildVersion is the released version, else the module version that Go recorded.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
