// Command standin stands in for hashicorp/http or hashicorp/null, whichever its file is named after (terraform-provider-http or
// terraform-provider-null), where examples and tools/bench can't ask a registry. It has what they use of it.
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
)

func main() {
	name := standIn(strings.TrimPrefix(filepath.Base(os.Args[0]), "terraform-provider-"))
	serve := providerserver.ServeOpts{Address: "registry.terraform.io/hashicorp/" + string(name)}
	if err := providerserver.Serve(context.Background(), func() provider.Provider { return name }, serve); err != nil {
		log.Fatal(err)
	}
}

// standIn is the provider with this name.
type standIn string

// Metadata returns the provider's name.
func (s standIn) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = string(s)
}

// Schema has no arguments.
func (standIn) Schema(context.Context, provider.SchemaRequest, *provider.SchemaResponse) {}

// Configure does nothing.
func (standIn) Configure(context.Context, provider.ConfigureRequest, *provider.ConfigureResponse) {}

// DataSources returns http's.
func (s standIn) DataSources(context.Context) []func() datasource.DataSource {
	if s != "http" {
		return nil
	}
	return []func() datasource.DataSource{func() datasource.DataSource { return get{} }}
}

// Resources returns null's.
func (s standIn) Resources(context.Context) []func() resource.Resource {
	if s != "null" {
		return nil
	}
	return []func() resource.Resource{func() resource.Resource { return nothing{} }}
}
