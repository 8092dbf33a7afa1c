package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// get is the data source http, with the arguments and results that examples use.
type get struct{}

type answer struct {
	URL     types.String `tfsdk:"url"`
	Headers types.Map    `tfsdk:"request_headers"`
	Status  types.Int64  `tfsdk:"status_code"`
	Body    types.String `tfsdk:"response_body"`
}

// Metadata returns the data source's name.
func (get) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName
}

// Schema returns the arguments and results.
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
	var a answer
	resp.Diagnostics.Append(req.Config.Get(ctx, &a)...)
	headers := map[string]string{}
	resp.Diagnostics.Append(a.Headers.ElementsAs(ctx, &headers, false)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := a.ask(ctx, headers); err != nil {
		resp.Diagnostics.AddError("Request failed", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &a)...)
}

func (a *answer) ask(ctx context.Context, headers map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL.ValueString(), http.NoBody)
	if err != nil {
		return err
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	const most = 1 << 20
	body, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	a.Status, a.Body = types.Int64Value(int64(response.StatusCode)), types.StringValue(string(body))
	return nil
}
