// Package source makes data sources. It contains what they all have in common.
package source

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
)

// Config describes a data source. M is its model, with a field for the attribute timeouts.
type Config[M any] struct {
	// Name is its name without the provider's prefix. Doing is what a panic interrupts, such as "listing offers".
	Name, Doing string
	// Text is its description.
	Text string
	// Attributes describe all attributes but timeouts.
	Attributes func() map[string]schema.Attribute
	// Validators judge its arguments together.
	Validators []datasource.ConfigValidator
	// Timeout is the default of timeouts.read, in whole minutes.
	Timeout time.Duration
	// AsksShopper makes Read fail while settings of the provider are unknown.
	AsksShopper bool
	// Read fills in the results. They are stored unless it adds an error. The context ends with timeouts.read.
	Read func(ctx context.Context, data *providerdata.Data, m *M, diags *diag.Diagnostics)
}

type source[M any] struct {
	Config[M]
	data *providerdata.Data
}

var (
	_ datasource.DataSourceWithConfigure        = (*source[struct{}])(nil)
	_ datasource.DataSourceWithConfigValidators = (*source[struct{}])(nil)
)

// New returns the data source.
func New[M any](config Config[M]) datasource.DataSource { return &source[M]{Config: config} }

// Metadata names the data source.
func (s *source[M]) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_" + s.Name
}

// Configure takes what the provider's configuration made.
func (s *source[M]) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	s.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the data source.
func (s *source[M]) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	attributes := s.Attributes()
	attributes["timeouts"] = timeouts.AttributesWithOpts(ctx, timeouts.Opts{
		ReadDescription: fmt.Sprintf("Default `%dm`.", int(s.Timeout.Minutes())),
	})
	resp.Schema = schema.Schema{MarkdownDescription: s.Text, Attributes: attributes}
}

// ConfigValidators judge the arguments together.
func (s *source[M]) ConfigValidators(context.Context) []datasource.ConfigValidator {
	return s.Validators
}

// Read reads within the configured time.
func (s *source[M]) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, s.Doing)
	var m M
	var limits timeouts.Value
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("timeouts"), &limits)...)
	if resp.Diagnostics.HasError() || s.AsksShopper && !s.data.Ready(&resp.Diagnostics) {
		return
	}
	timeout, diags := limits.Read(ctx, s.Timeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s.Config.Read(ctx, s.data, &m, &resp.Diagnostics)
	if !resp.Diagnostics.HasError() {
		resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
	}
}
