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

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
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

	// A Terraform that is killed takes the other end of this process's standard error
	// with it, and the next line written there would end this process too. Calls
	// under way see their context end instead, and release what they have rented.
	signal.Ignore(syscall.SIGPIPE)
	collectLess()
	shopper := provider.New(buildVersion())
	err := serve(shopper, *debugging)
	// Terraform may have left tunnels open. Their end and that of connections is no
	// reason to fail at this point.
	_ = shopper.Close()
	if err != nil {
		log.Fatal(err)
	}
}

// serve returns when the process is to end: when Terraform says so, or with
// -debug at a signal.
func serve(shopper *provider.Shopper, debugging bool) error {
	const address = "registry.terraform.io/" + provider.Address
	server := providerserver.NewProtocol6(shopper)
	if debugging {
		// A signal ends the context of calls under way without waiting for them. A
		// second signal ends the process.
		defer provider.Finish()
		return tf6server.Serve(address, server, tf6server.WithManagedDebug(),
			tf6server.WithManagedDebugStopSignals([]os.Signal{os.Interrupt, syscall.SIGTERM}))
	}
	// The plugin server swallows SIGINT, so that Terraform alone decides when a
	// provider ends. SIGTERM to the process group (a CI job that is canceled) would
	// end this process in the middle of a rental and lose what it rented: ignored, it
	// works as Ctrl-C does.
	signal.Ignore(syscall.SIGTERM)
	go func() {
		provider.WaitForOrphan()
		_ = shopper.Close()
		os.Exit(1)
	}()
	beQuiet()
	return tf6server.Serve(address, server)
}

// heapLimit is how much memory Go may use before it collects garbage as often as it does by itself: together with the
// program's own pages less than 100 MB.
const heapLimit = 56 << 20

// collectLess trades memory for time. The provider lives as long as one command of Terraform and makes a megabyte of garbage
// for each resource that is planned, so a quarter of its time went into collecting it from a heap of a few megabytes.
func collectLess() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(400)
		debug.SetMemoryLimit(heapLimit)
	}
}

// beQuiet turns off all loggers where Terraform was asked for no log: it would read every line, and throw it away. A crash is
// told all the same.
func beQuiet() {
	for _, variable := range os.Environ() {
		if strings.HasPrefix(variable, "TF_LOG") {
			return
		}
	}
	for _, name := range []string{"TF_LOG_PROVIDER_SHOPPER", "TF_LOG_SDK", "TF_LOG_SDK_PROTO", "TF_LOG_SDK_FRAMEWORK"} {
		_ = os.Setenv(name, "OFF") // terraform-plugin-log would log otherwise: no harm
	}
}

// buildVersion is the released version, else the module's as Go recorded it.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
