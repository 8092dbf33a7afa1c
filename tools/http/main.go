// Command http is a stand-in for the provider hashicorp/http, so that an example
// which uses it can be validated and applied without a registry. It has the one data
// source, with those of its arguments and results that examples use.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func main() {
	serve := providerserver.ServeOpts{Address: "registry.terraform.io/hashicorp/http"}
	if err := providerserver.Serve(context.Background(), func() provider.Provider { return standIn{} }, serve); err != nil {
		log.Fatal(err)
	}
}

type standIn struct{}

// Metadata names the provider.
func (standIn) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "http"
}

// Schema has no arguments.
func (standIn) Schema(context.Context, provider.SchemaRequest, *provider.SchemaResponse) {}

// Configure has nothing to do.
func (standIn) Configure(context.Context, provider.ConfigureRequest, *provider.ConfigureResponse) {}

// Resources are none.
func (standIn) Resources(context.Context) []func() resource.Resource { return nil }

// DataSources is the one.
func (standIn) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{func() datasource.DataSource { return get{} }}
}

// get is the data source http.
type get struct{}

type model struct {
	URL     types.String `tfsdk:"url"`
	Headers types.Map    `tfsdk:"request_headers"`
	Status  types.Int64  `tfsdk:"status_code"`
	Body    types.String `tfsdk:"response_body"`
}

// Metadata names the data source.
func (get) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName
}

// Schema describes the data source.
func (get) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{Attributes: map[string]schema.Attribute{
		"url":             schema.StringAttribute{Required: true},
		"request_headers": schema.MapAttribute{Optional: true, ElementType: types.StringType},
		"status_code":     schema.Int64Attribute{Computed: true},
		"response_body":   schema.StringAttribute{Computed: true},
	}}
}

// Read sends the request.
func (get) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	headers := map[string]string{}
	resp.Diagnostics.Append(m.Headers.ElementsAs(ctx, &headers, false)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := m.ask(ctx, headers); err != nil {
		resp.Diagnostics.AddError("Request failed", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

func (m *model) ask(ctx context.Context, headers map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL.ValueString(), http.NoBody)
	if err != nil {
		return err
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	const most = 1 << 20
	body, err := io.ReadAll(io.LimitReader(answer.Body, most))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	m.Status, m.Body = types.Int64Value(int64(answer.StatusCode)), types.StringValue(string(body))
	return nil
}
