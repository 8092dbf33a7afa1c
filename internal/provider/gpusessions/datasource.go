// Package gpusessions is the data source shopper_gpu_sessions: the rented machines, and which of them no configuration
// manages.
package gpusessions

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/argument"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/result"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sessionview"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/source"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// NewDataSource returns the data source shopper_gpu_sessions.
func NewDataSource() datasource.DataSource {
	return source.New(source.Config[model]{
		Name: "gpu_sessions", Doing: "listing sessions", Timeout: 5 * time.Minute, AsksShopper: true,
		Text: "The sessions of this provider's `consumer_id`, newest first. With `known_ids`, a scheduled plan finds" +
			" leftovers: of a laptop that died with its state, of a CI job that was killed.",
		Attributes: attributes, Read: read,
	})
}

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

func attributes() map[string]schema.Attribute {
	session := sessionview.Attributes()
	session["stray"] = result.Flag("Whether the session is a stray: this consumer rented it, it may cost money, and `known_ids` doesn't" +
		" contain it. Null unless `known_ids` is set.")
	return map[string]schema.Attribute{
		"statuses": argument.Texts("Statuses to show. Default: all but `stopped` and `failed`, which is everything that may cost"+
			" money.", validate.Status()),
		"clouds":        argument.Texts("Clouds to show. Default: all.", validate.Cloud()),
		"name_prefix":   argument.Text("Beginning of the session's name.", validate.NotEmpty()),
		"older_than":    argument.Text("Minimum age of the sessions to show, such as `90m`.", validate.Duration(0, 0, 1)),
		"all_consumers": argument.Flag("Show other consumers' sessions too. They are never strays. Default `false`."),
		"known_ids": argument.Texts("IDs that your configurations manage, such as the `id` of their sessions. Every other session of"+
			" this consumer that is shown is a stray.", validate.NotEmpty()),
		"sessions": result.List("The sessions.", session),
		"stray_ids": schema.SetAttribute{
			Computed: true, ElementType: types.StringType,
			MarkdownDescription: "IDs of the strays. Null unless `known_ids` is set.",
		},
		"price_per_hour": result.Decimal("Total price of the sessions shown that have not ended, in USD per hour."),
	}
}

func read(ctx context.Context, data *providerdata.Data, m *model, diags *diag.Diagnostics) {
	all, err := list(ctx, data.Client, attrs.Strings(ctx, m.Statuses, diags), diags)
	if err != nil {
		diags.Append(diagnostic.NotRead("Could not list sessions", err))
		return
	}
	now := time.Now()
	shown := m.filter(ctx, all, data.Consumer, now, diags)
	views, d := sessionview.Show(ctx, data.Client, shown, now)
	diags.Append(d...)
	m.fill(ctx, shown, views, data.Consumer, diags)
}

// list lists the sessions with these statuses, or without any, those that may cost money.
func list(ctx context.Context, client *shopper.Client, statuses []string, diags *diag.Diagnostics) ([]shopper.Session, error) {
	if len(statuses) == 0 {
		return sessionview.Live(ctx, client)
	}
	words := make([]shopper.Status, 0, len(statuses))
	for _, status := range statuses {
		words = append(words, shopper.Status(status))
	}
	all, complete, err := sessionview.ByStatus(ctx, client, words...)
	if err == nil && !complete {
		diags.AddWarning("Older sessions are not shown", fmt.Sprintf("The shopper keeps all sessions forever. Only the newest %d of"+
			" each status were checked.", shopper.MaxSessions))
	}
	return all, err
}

// fill fills in the sessions, the strays among them and their total price.
func (m *model) fill(ctx context.Context, shown []shopper.Session, views []sessionview.Model, consumer string, diags *diag.Diagnostics) {
	price, strays := 0.0, []string{}
	known := attrs.Strings(ctx, m.KnownIDs, diags)
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
	m.PricePerHour = attrs.Exact(price)
	m.StrayIDs = types.SetNull(types.StringType)
	if !m.KnownIDs.IsNull() {
		ids, d := types.SetValueFrom(ctx, types.StringType, strays)
		diags.Append(d...)
		m.StrayIDs = ids
	}
}

// filter selects the sessions that the arguments ask for, in place.
func (m *model) filter(ctx context.Context, all []shopper.Session, consumer string, now time.Time,
	diags *diag.Diagnostics,
) []shopper.Session {
	statuses, clouds := attrs.Strings(ctx, m.Statuses, diags), attrs.Strings(ctx, m.Clouds, diags)
	age := validate.Span(m.OlderThan.ValueString())
	return slices.DeleteFunc(all, func(s shopper.Session) bool {
		return len(statuses) == 0 && !sessionview.Alive(s) || len(statuses) > 0 && !slices.Contains(statuses, string(s.Status)) ||
			len(clouds) > 0 && !slices.Contains(clouds, s.Cloud) ||
			!m.AllConsumers.ValueBool() && !sessionview.Ours(s, consumer) ||
			!strings.HasPrefix(sessionview.Name(s), m.NamePrefix.ValueString()) ||
			now.Sub(s.CreatedAt) < age
	})
}
