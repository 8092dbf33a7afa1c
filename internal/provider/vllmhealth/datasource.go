// Package vllmhealth is the data source shopper_vllm_health: checks on a vLLM server and its machine, for check blocks and
// postconditions.
package vllmhealth

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/argument"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/reach"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/result"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/serverattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/source"
)

const readTimeout = 2 * time.Minute

// NewDataSource returns the data source shopper_vllm_health.
func NewDataSource() datasource.DataSource {
	return source.New(source.Config[model]{
		Name: "vllm_health", Doing: "checking a server", Timeout: readTimeout,
		Text: "Checks on a vLLM server and its machine. A server that is unhealthy, unreachable or refuses the" +
			" credentials is a value and never an error, so that `check` blocks and postconditions can judge it. The checks run in" +
			" parallel, within `timeouts.read`. Terraform reads ten objects at a time: if many machines may not answer, raise" +
			" `-parallelism`.",
		Attributes: attributes, Read: read,
	})
}

func attributes() map[string]schema.Attribute {
	attributes := reach.Attributes("The machine. Without it the checks `gpus` and `runtime` are skipped, and the server is reached" +
		" directly.")
	maps.Copy(attributes, map[string]schema.Attribute{
		"server": serverattr.Argument("Identifies the server on its machine: a deployment's `server`. Without it, the check"+
			" `runtime` is skipped.", false),
		"model":      argument.Text("Model to check. Default: the first one that is served."),
		"completion": argument.Flag("Default `true`. Set false for models that don't generate text: they are asked for an embedding."),
		"skip": argument.Texts("Checks to skip: `gpus`, `runtime`, `health`, `model`, `completion`.",
			stringvalidator.OneOf(names...)),
		"healthy": result.Flag("Whether no check failed."),
		"failures": schema.ListAttribute{
			Computed: true, ElementType: types.StringType, MarkdownDescription: "The failed checks with their results, for error messages.",
		},
		"checks": checksAttribute(),
	})
	return attributes
}

func read(ctx context.Context, data *providerdata.Data, m *model, diags *diag.Diagnostics) {
	p := patient{
		target: reach.Read(ctx, data, m.Arguments, diags), model: m.Model.ValueString(),
		completion: m.Completion.IsNull() || m.Completion.ValueBool(), skip: attrs.Strings(ctx, m.Skip, diags),
	}
	if !m.Server.IsNull() {
		server := serverattr.Ref(ctx, m.Server, diags)
		p.server = &server
	}
	if diags.HasError() {
		return
	}
	m.BaseURL, m.Checks = types.StringValue(p.target.URL), p.examine(ctx, data)
	if err := ctx.Err(); errors.Is(err, context.Canceled) { // a canceled run says nothing about the server
		diags.Append(diagnostic.Error("Could not check the server", err))
		return
	}
	m.Failures = m.Checks.failures()
	m.Healthy = types.BoolValue(len(m.Failures) == 0)
}
