// Package vllmlogs is the data source shopper_vllm_logs: the last lines of a vLLM server's log.
package vllmlogs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/argument"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/result"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/serverattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/source"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
)

const defaultLines = 200

// NewDataSource returns the data source shopper_vllm_logs.
func NewDataSource() datasource.DataSource {
	return source.New(source.Config[model]{
		Name: "vllm_logs", Doing: "reading a log", Timeout: time.Minute,
		Text: "The last lines of a vLLM server's log. Secrets are masked: Hugging Face tokens, bearer tokens, and values" +
			" of `api_key` and `hf_token`. An unreachable machine is a value and never an error. A log changes with every read, so an" +
			" output of it changes in every plan.",
		Attributes: attributes, Read: read,
	})
}

type model struct {
	SSH      types.Object   `tfsdk:"ssh"`
	Server   types.Object   `tfsdk:"server"`
	Lines    types.Int64    `tfsdk:"lines"`
	Since    types.String   `tfsdk:"since"`
	Filter   types.String   `tfsdk:"filter"`
	Log      []string       `tfsdk:"log"`
	Problem  types.String   `tfsdk:"problem"`
	Message  types.String   `tfsdk:"message"`
	Timeouts timeouts.Value `tfsdk:"timeouts"`
}

func attributes() map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"ssh":    sshattr.Argument("The machine.", true),
		"server": serverattr.Argument("Identifies the server on its machine: a deployment's `server`.", true),
		"lines":  argument.Number("How many of the last lines to read. Default 200.", int64validator.Between(1, lifecycle.MaxLogLines)),
		"since": argument.Text("Maximum age of the lines, such as `15m`, by the log's timestamps and the machine's clock.",
			validate.Duration(time.Second, 0, 1)),
		"filter": argument.Text("Regular expression ([RE2](https://github.com/google/re2/wiki/Syntax)) that the lines must match.",
			validate.String("must be a regular expression", checkPattern)),
		"log": schema.ListAttribute{
			Computed: true, ElementType: types.StringType, MarkdownDescription: "The log lines, oldest first.",
		},
		"problem": result.Text("Kind of problem, null for none: " + diagnostic.ProblemText),
		"message": result.Text("Explanation for people."),
	}
}

func checkPattern(s string) error {
	_, err := regexp.Compile(s)
	return err
}

func read(ctx context.Context, data *providerdata.Data, m *model, diags *diag.Diagnostics) {
	ref, ssh := serverattr.Ref(ctx, m.Server, diags), attrs.Object[sshattr.Model](ctx, m.SSH, diags)
	if diags.HasError() {
		return
	}
	log, err := m.lines(ctx, data, ssh, ref)
	if errors.Is(ctx.Err(), context.Canceled) {
		diags.Append(diagnostic.Error("Could not read the log", ctx.Err()))
		return
	}
	m.Log, m.Message = []string{}, types.StringValue(fmt.Sprintf("%d lines.", len(log)))
	if err != nil {
		m.Problem, m.Message = attrs.Text(diagnostic.Problem(err)), types.StringValue(err.Error())
	} else if len(log) > 0 {
		m.Log = log
	}
}

// lines are the log's lines that the arguments select.
func (m *model) lines(ctx context.Context, data *providerdata.Data, ssh sshattr.Model, ref deploy.Ref) ([]string, error) {
	machine, err := data.Machines.Open(ctx, ssh.Config(data.Credentials()))
	if err != nil {
		return nil, err
	}
	defer machine.Close()
	log, err := lifecycle.LogTail(ctx, machine, ref, cmp.Or(int(m.Lines.ValueInt64()), defaultLines))
	if err == nil && !m.Since.IsNull() {
		log, err = lifecycle.LogSince(ctx, machine, ref, log, validate.Span(m.Since.ValueString()))
	}
	if err != nil || m.Filter.IsNull() {
		return log, err
	}
	pattern, err := regexp.Compile(m.Filter.ValueString())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(log, func(line string) bool { return !pattern.MatchString(line) }), nil
}
