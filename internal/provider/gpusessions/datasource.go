// Package gpusessions is the data source shopper_gpu_sessions: what is rented,
// and what of it no configuration knows.
package gpusessions

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sessionview"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const readTimeout = 5 * time.Minute

// DataSource is shopper_gpu_sessions.
type DataSource struct {
	data *providerdata.Data
}

var _ datasource.DataSourceWithConfigure = (*DataSource)(nil)

// NewDataSource returns the data source.
func NewDataSource() datasource.DataSource { return &DataSource{} }

type model struct {
	Statuses     types.Set      `tfsdk:"statuses"`
	Clouds       types.Set      `tfsdk:"clouds"`
	NamePrefix   types.String   `tfsdk:"name_prefix"`
	OlderThan    types.String   `tfsdk:"older_than"`
	AllConsumers types.Bool     `tfsdk:"all_consumers"`
	KnownIDs     types.Set      `tfsdk:"known_ids"`
	Sessions     []sessionModel `tfsdk:"sessions"`
	StrayIDs     types.Set      `tfsdk:"stray_ids"`
	PricePerHour types.Float64  `tfsdk:"price_per_hour"`
	Timeouts     timeouts.Value `tfsdk:"timeouts"`
}

// sessionModel is one session of the list.
type sessionModel struct {
	sessionview.Model
	Stray types.Bool `tfsdk:"stray"`
}

// Metadata names the data source.
func (d *DataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_gpu_sessions"
}

// Configure takes what the provider's configuration made.
func (d *DataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the data source.
func (d *DataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	words := func(text string, of validator.String) schema.SetAttribute {
		return schema.SetAttribute{
			Optional: true, ElementType: types.StringType, MarkdownDescription: text,
			Validators: []validator.Set{setvalidator.ValueStringsAre(of)},
		}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "The sessions of this provider's `consumer_id`, newest first. With `known_ids`, a scheduled plan finds" +
			" leftovers: of a laptop that died with its state, of a CI job that was killed.",
		Attributes: map[string]schema.Attribute{
			"statuses": words("Statuses to show. Default: all but `stopped` and `failed`, which is everything that may cost"+
				" money.", validate.Status()),
			"clouds": words("Clouds to show. Default: all.", validate.Cloud()),
			"name_prefix": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.NotEmpty()}, MarkdownDescription: "Beginning of the session's" +
					" name.",
			},
			"older_than": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.Duration(0, 0, 1)},
				MarkdownDescription: "Minimum age of the sessions to show, such as `90m`.",
			},
			"all_consumers": schema.BoolAttribute{
				Optional: true, MarkdownDescription: "Show other consumers' sessions too. They are never strays. Default false.",
			},
			"known_ids": words("IDs that your configurations manage, such as the `id` of their sessions. Every other session of this"+
				" consumer that is shown is a stray.", validate.NotEmpty()),
			"sessions": schema.ListNestedAttribute{
				Computed: true, MarkdownDescription: "The sessions.",
				NestedObject: schema.NestedAttributeObject{Attributes: sessionAttributes()},
			},
			"stray_ids": schema.SetAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "IDs of the strays. Null unless `known_ids` is set.",
			},
			"price_per_hour": schema.Float64Attribute{
				Computed: true, MarkdownDescription: "Total price of the sessions shown that have not ended, in USD per hour.",
			},
			"timeouts": timeouts.AttributesWithOpts(ctx, timeouts.Opts{ReadDescription: "Default `5m`."}),
		},
	}
}

func sessionAttributes() map[string]schema.Attribute {
	attributes := sessionview.Attributes()
	attributes["stray"] = schema.BoolAttribute{
		Computed: true,
		MarkdownDescription: "Whether the session is a stray: this consumer rented it, it may cost money, and `known_ids` doesn't" +
			" contain it. Null unless `known_ids` is set.",
	}
	return attributes
}

// Read lists the sessions.
func (d *DataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "listing sessions")
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() || !d.data.Ready(&resp.Diagnostics) {
		return
	}
	timeout, diags := m.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	all, err := d.list(ctx, attrs.Strings(ctx, m.Statuses, &resp.Diagnostics), &resp.Diagnostics)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.NotRead("Could not list sessions", err))
		return
	}
	now := time.Now()
	shown := d.filter(ctx, m, all, now, resp)
	views, diags := sessionview.Show(ctx, d.data.Client, shown, now)
	resp.Diagnostics.Append(diags...)
	m.fill(ctx, shown, views, d.data.Consumer, resp)
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// list lists the sessions of these statuses; without any, those that may be costing money.
func (d *DataSource) list(ctx context.Context, statuses []string, diags *diag.Diagnostics) ([]shopper.Session, error) {
	if len(statuses) == 0 {
		return sessionview.Live(ctx, d.data.Client)
	}
	words := make([]shopper.Status, 0, len(statuses))
	for _, status := range statuses {
		words = append(words, shopper.Status(status))
	}
	all, complete, err := sessionview.ByStatus(ctx, d.data.Client, words...)
	if err == nil && !complete {
		diags.AddWarning("Older sessions are not shown", fmt.Sprintf("The shopper keeps all sessions forever. Only the newest %d of"+
			" each status were checked.", shopper.MaxSessions))
	}
	return all, err
}

// fill fills in the sessions, and what is said of all of them together.
func (m *model) fill(ctx context.Context, shown []shopper.Session, views []sessionview.Model, consumer string,
	resp *datasource.ReadResponse,
) {
	price := 0.0
	known := attrs.Strings(ctx, m.KnownIDs, &resp.Diagnostics)
	strays := []string{}
	m.Sessions = make([]sessionModel, 0, len(shown))
	for i, s := range shown {
		view := sessionModel{Model: views[i]}
		stray := sessionview.Alive(s) && sessionview.Ours(s, consumer) && !slices.Contains(known, s.ID)
		if !m.KnownIDs.IsNull() {
			view.Stray = types.BoolValue(stray)
		}
		if stray {
			strays = append(strays, s.ID)
		}
		if sessionview.Alive(s) {
			price += s.PricePerHour
		}
		m.Sessions = append(m.Sessions, view)
	}
	m.PricePerHour = types.Float64Value(price)
	m.StrayIDs = types.SetNull(types.StringType)
	if !m.KnownIDs.IsNull() {
		ids, diags := types.SetValueFrom(ctx, types.StringType, strays)
		resp.Diagnostics.Append(diags...)
		m.StrayIDs = ids
	}
}

func (d *DataSource) filter(ctx context.Context, m model, all []shopper.Session, now time.Time,
	resp *datasource.ReadResponse,
) []shopper.Session {
	statuses, clouds := attrs.Strings(ctx, m.Statuses, &resp.Diagnostics), attrs.Strings(ctx, m.Clouds, &resp.Diagnostics)
	age := validate.Span(m.OlderThan.ValueString())
	var shown []shopper.Session
	for _, s := range all {
		switch {
		case len(statuses) == 0 && !sessionview.Alive(s), len(statuses) > 0 && !slices.Contains(statuses, string(s.Status)):
		case len(clouds) > 0 && !slices.Contains(clouds, s.Cloud):
		case !m.AllConsumers.ValueBool() && !sessionview.Ours(s, d.data.Consumer):
		case !strings.HasPrefix(name(s), m.NamePrefix.ValueString()):
		case now.Sub(s.CreatedAt) < age:
		default:
			shown = append(shown, s)
		}
	}
	return shown
}

func name(s shopper.Session) string {
	mark, _ := rental.ParseMark(s.ConsumerID)
	return mark.Name
}
