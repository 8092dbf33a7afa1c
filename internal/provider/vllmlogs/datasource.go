// Package vllmlogs is the data source shopper_vllm_logs: the last lines of a vLLM server's log.
package vllmlogs

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/serverattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
)

const (
	readTimeout  = time.Minute
	defaultLines = 200
)

// DataSource is shopper_vllm_logs.
type DataSource struct {
	data *providerdata.Data
}

var _ datasource.DataSourceWithConfigure = (*DataSource)(nil)

// NewDataSource returns the data source.
func NewDataSource() datasource.DataSource { return &DataSource{} }

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

// Metadata names the data source.
func (d *DataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_vllm_logs"
}

// Configure takes what the provider's configuration made.
func (d *DataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the data source.
func (d *DataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	computed := func(text string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: text}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "The last lines of a vLLM server's log. Secrets are masked: Hugging Face tokens, bearer tokens, and values" +
			" of `api_key` and `hf_token`. An unreachable machine is a value and never an error. A log changes with every read, so an" +
			" output of it changes in every plan.",
		Attributes: map[string]schema.Attribute{
			"ssh":    sshattr.DataSourceArgument("The machine.", true),
			"server": serverattr.DataSourceArgument("Identifies the server on its machine: a deployment's `server`.", true),
			"lines": schema.Int64Attribute{
				Optional: true, Validators: []validator.Int64{int64validator.Between(1, lifecycle.MaxLogLines)},
				MarkdownDescription: "How many of the last lines to read. Default 200.",
			},
			"since": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.Duration(time.Second, 0, 1)},
				MarkdownDescription: "Maximum age of the lines, such as `15m`, by the log's timestamps and the machine's clock.",
			},
			"filter": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.String("must be a regular expression", checkPattern)},
				MarkdownDescription: "Regular expression ([RE2](https://github.com/google/re2/wiki/Syntax)) that the lines must match.",
			},
			"log": schema.ListAttribute{
				Computed: true, ElementType: types.StringType, MarkdownDescription: "The log lines, oldest first.",
			},
			"problem":  computed("Kind of problem, null for none: " + diagnostic.ProblemText),
			"message":  computed("Explanation for people."),
			"timeouts": timeouts.AttributesWithOpts(ctx, timeouts.Opts{ReadDescription: "Default `1m`."}),
		},
	}
}

func checkPattern(s string) error {
	_, err := regexp.Compile(s)
	return err
}

// Read reads the log.
func (d *DataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "reading a log")
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	ref, diags := serverattr.Ref(ctx, m.Server)
	resp.Diagnostics.Append(diags...)
	var ssh sshattr.Model
	resp.Diagnostics.Append(m.SSH.As(ctx, &ssh, basetypes.ObjectAsOptions{})...)
	if resp.Diagnostics.HasError() {
		return
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	log, err := d.read(limited, ssh, ref, m)
	if ctx.Err() != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not read the log", ctx.Err()))
		return
	}
	m.Log, m.Message = []string{}, types.StringValue(fmt.Sprintf("%d lines.", len(log)))
	if err != nil {
		m.Problem, m.Message = attrs.Text(diagnostic.Problem(err)), types.StringValue(err.Error())
	} else if len(log) > 0 {
		m.Log = log
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

func (d *DataSource) read(ctx context.Context, ssh sshattr.Model, ref deploy.Ref, m model) ([]string, error) {
	machine, err := d.data.Machines.Open(ctx, ssh.Config(d.data.Credentials()))
	if err != nil {
		return nil, err
	}
	defer machine.Close()
	lines := defaultLines
	if !m.Lines.IsNull() {
		lines = int(m.Lines.ValueInt64())
	}
	log, err := lifecycle.LogTail(ctx, machine, ref, lines)
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
