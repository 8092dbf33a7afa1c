// Package extendsession is the action shopper_extend_session.
package extendsession

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/action/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/actionvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework/action"
	"github.com/hashicorp/terraform-plugin-framework/action/schema"
	data "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/argument"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/forms"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// defaultTimeout bounds an extension, like an update of the resource.
const defaultTimeout = 10 * time.Minute

// Action is the action shopper_extend_session.
type Action struct {
	data *providerdata.Data
}

var (
	_ action.ActionWithConfigure        = (*Action)(nil)
	_ action.ActionWithConfigValidators = (*Action)(nil)
)

// New returns the action.
func New() action.Action { return &Action{} }

type model struct {
	SessionID        types.String   `tfsdk:"session_id"`
	ReservationHours types.Int64    `tfsdk:"reservation_hours"`
	AdditionalHours  types.Int64    `tfsdk:"additional_hours"`
	Timeouts         timeouts.Value `tfsdk:"timeouts"`
}

// Metadata names the action.
func (a *Action) Metadata(_ context.Context, req action.MetadataRequest, resp *action.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_extend_session"
}

// Configure takes what the provider's configuration made.
func (a *Action) Configure(_ context.Context, req action.ConfigureRequest, resp *action.ConfigureResponse) {
	a.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the action.
func (a *Action) Schema(ctx context.Context, _ action.SchemaRequest, resp *action.SchemaResponse) {
	attributes := forms.Actions(map[string]data.Attribute{
		"session_id": argument.Required(argument.Text("The session's ID.", validate.String("must be a session's ID", shopper.ValidateID))),
		"reservation_hours": argument.Number("Hours from the session's start to its end, as in the resource. A session that is reserved"+
			" for at least as long stays unchanged, however often the action is invoked. Set either this or `additional_hours`.",
			int64validator.AtLeast(1)),
		"additional_hours": argument.Number("Hours to add, 1 to 12, each time the action is invoked.",
			int64validator.Between(1, shopper.MaxReservationHours)),
	})
	attributes["timeouts"] = timeouts.AttributesWithOpts(ctx, timeouts.Opts{InvokeDescription: "Default `10m`."})
	resp.Schema = schema.Schema{
		MarkdownDescription: "Extends a session's reservation up to the shopper's limit: twelve hours from its start, unless its" +
			" operator has set another. The resource's `reservation_hours` is a minimum, so it need not change. The request that adds" +
			" hours is sent only once, so a lost answer never adds them twice.\n\nActions require Terraform 1.14; `caller` in their" +
			" configuration requires 1.16. With older Terraform versions and OpenTofu, raise `reservation_hours` of the" +
			" resource instead. An action that fails at `before_destroy` stops a replacement, unless its trigger has" +
			" `on_failure = continue`; it never stops `terraform destroy`.",
		Attributes: attributes,
	}
}

// ConfigValidators require exactly one of the two arguments about hours.
func (a *Action) ConfigValidators(context.Context) []action.ConfigValidator {
	return []action.ConfigValidator{actionvalidator.ExactlyOneOf(path.MatchRoot("reservation_hours"), path.MatchRoot("additional_hours"))}
}

// Invoke extends the reservation.
func (a *Action) Invoke(ctx context.Context, req action.InvokeRequest, resp *action.InvokeResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "extending a session")
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() || !a.data.Ready(&resp.Diagnostics) {
		return
	}
	timeout, diags := m.Timeouts.Invoke(ctx, defaultTimeout)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	say := func(format string, args ...any) {
		resp.SendProgress(action.InvokeProgressEvent{Message: fmt.Sprintf(format, args...)})
	}

	id := m.SessionID.ValueString()
	say("Reading session %s", id)
	before, err := a.data.Client.Session(ctx, id)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not read session "+id, err))
		return
	}
	wanted := int(m.ReservationHours.ValueInt64())
	if !m.AdditionalHours.IsNull() {
		wanted = before.ReservationHours + int(m.AdditionalHours.ValueInt64())
	}
	if wanted <= before.ReservationHours {
		say("The session is already reserved for %d hours, until %s", before.ReservationHours, before.ExpiresAt.UTC().Format(time.RFC3339))
		return
	}
	say("Extending the reservation from %d to %d hours, at %s an hour", before.ReservationHours, wanted, rental.Dollars(before.PricePerHour))
	after, err := a.data.Renter.Extend(ctx, rental.Known{ID: id}, wanted)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not extend session "+id, err))
		return
	}
	say("The session is now reserved for %d hours, until %s", after.ReservationHours, after.ExpiresAt.UTC().Format(time.RFC3339))
}
