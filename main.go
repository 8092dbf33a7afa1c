// Command terraform-provider-shopper is the Terraform and OpenTofu provider for
// cloud-gpu-shopper. Terraform starts it; people run it only with -version or
// -debug.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/orphan"
)

// version is set by the build; see buildVersion.
var version = ""

func main() {
	debugging := flag.Bool("debug", false, "wait for a debugger, and print how Terraform reaches this process")
	showVersion := flag.Bool("version", false, "print the version and end")
	flag.Parse()
	if *showVersion {
		fmt.Println(buildVersion())
		return
	}

	// The plugin server swallows SIGINT, so that Terraform alone decides when a
	// provider ends. SIGTERM to the process group (a CI job that is cancelled) would
	// end this process in the middle of a rental and lose what it rented: ignored, it
	// works as Ctrl-C does.
	signal.Ignore(syscall.SIGTERM)

	// A Terraform that is killed takes the other end of this process's standard error
	// with it, and the next line written there would end this process too. Calls
	// under way see their context end instead, and give back what they have rented.
	signal.Ignore(syscall.SIGPIPE)
	if !*debugging {
		go func() {
			orphan.Wait()
			_ = provider.Close()
			os.Exit(1)
		}()
	}

	err := providerserver.Serve(context.Background(), provider.New(buildVersion()), providerserver.ServeOpts{
		Address: "registry.terraform.io/" + provider.Address,
		Debug:   *debugging,
	})
	// Terraform may have left tunnels open. Their end and that of connections is no
	// reason to fail at this point.
	_ = provider.Close()
	if err != nil {
		log.Fatal(err)
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
