// Package provider is what Terraform and OpenTofu see: the provider with its
// resources and data sources. It turns configuration into the plain values of
// the packages below it and what they return into state; it decides nothing
// about machines or money itself.
package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/resource"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/gpuoffers"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/gpusession"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/vllmdeployment"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/vllmendpoint"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/vllmhealth"
)

// Address is the provider's address in the registries, without a host.
const Address = "cloud-gpu-shopper/shopper"

// Shopper is the provider.
type Shopper struct {
	version string
}

var _ provider.Provider = (*Shopper)(nil)

// New returns what a provider server needs to make the provider. The version
// goes into User-Agent and onto what is deployed.
func New(version string) func() provider.Provider {
	return func() provider.Provider { return &Shopper{version: version} }
}

// Metadata names the provider.
func (p *Shopper) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "shopper"
	resp.Version = p.version
}

// Resources lists the resources.
func (p *Shopper) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{
		gpusession.NewResource,
		vllmdeployment.NewResource,
	}
}

// DataSources lists the data sources.
func (p *Shopper) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{
		gpuoffers.NewDataSource,
		vllmendpoint.NewDataSource,
		vllmhealth.NewDataSource,
	}
}
