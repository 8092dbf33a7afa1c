// Package provider is the provider that Terraform and OpenTofu see, with its resources, data sources and other objects. It
// converts configuration to the plain values of the packages below it, and their results to state. It decides nothing about
// machines or money.
package provider

import (
	"context"
	"errors"
	"sync"

	"github.com/hashicorp/terraform-plugin-framework/action"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/list"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/resource"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/costs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/estimatevram"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/extendsession"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/gpuoffers"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/gpusession"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/gpusessions"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/orphan"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/twin"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/restartvllm"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/service"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/sshtunnel"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/templates"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/tunnelcommand"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/vllmdeployment"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/vllmendpoint"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/vllmhealth"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/vllmlogs"
)

// Address is the provider's address in the registries, without a host.
const Address = "cloud-gpu-shopper/shopper"

// Shopper is the provider.
type Shopper struct {
	version string
	mu      sync.Mutex
	data    []*providerdata.Data // one for each Configure, for Close
}

// Older CLIs load the provider too: they ask only for what they know.
var (
	_ provider.Provider                       = (*Shopper)(nil)
	_ provider.ProviderWithFunctions          = (*Shopper)(nil)
	_ provider.ProviderWithEphemeralResources = (*Shopper)(nil)
	_ provider.ProviderWithActions            = (*Shopper)(nil)
	_ provider.ProviderWithListResources      = (*Shopper)(nil)
)

// New returns the provider. The version is part of the User-Agent and of the labels of deployed servers.
func New(version string) *Shopper { return &Shopper{version: version} }

// Close closes what is still open on machines: tunnels that Terraform didn't close, and shared connections. Nothing can be
// opened afterwards.
func (p *Shopper) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, data := range p.data {
		errs = append(errs, data.Close())
	}
	return errors.Join(errs...)
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
		costs.NewDataSource,
		gpuoffers.NewDataSource,
		gpusession.NewDataSource,
		gpusessions.NewDataSource,
		service.NewDataSource,
		templates.NewDataSource,
		vllmendpoint.NewDataSource,
		vllmhealth.NewDataSource,
		vllmlogs.NewDataSource,
	}
}

// EphemeralResources lists the ephemeral resources.
func (p *Shopper) EphemeralResources(context.Context) []func() ephemeral.EphemeralResource {
	return []func() ephemeral.EphemeralResource{
		sshtunnel.NewResource,
		twin.Of(vllmendpoint.NewDataSource),
		twin.Of(vllmhealth.NewDataSource),
	}
}

// Functions lists the functions.
func (p *Shopper) Functions(context.Context) []func() function.Function {
	return []func() function.Function{tunnelcommand.New, estimatevram.New}
}

// Actions lists the actions.
func (p *Shopper) Actions(context.Context) []func() action.Action {
	return []func() action.Action{extendsession.New, restartvllm.New}
}

// ListResources lists the resources that can be listed.
func (p *Shopper) ListResources(context.Context) []func() list.ListResource {
	return []func() list.ListResource{gpusession.NewListResource}
}

// WaitForOrphan returns once the parent process has ended and no rental or release is under way.
func WaitForOrphan() { orphan.Wait() }

// Finish returns once no rental or release is under way.
func Finish() { orphan.Finish() }
