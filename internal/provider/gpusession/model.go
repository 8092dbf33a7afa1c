package gpusession

import (
	"context"
	"reflect"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/needs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

type model struct {
	Name             types.String `tfsdk:"name"`
	NamePrefix       types.String `tfsdk:"name_prefix"`
	OfferID          types.String `tfsdk:"offer_id"`
	Requirements     types.Object `tfsdk:"requirements"`
	MaxAttempts      types.Int64  `tfsdk:"max_attempts"`
	ReservationHours types.Int64  `tfsdk:"reservation_hours"`
	WorkloadType     types.String `tfsdk:"workload_type"`
	DiskGB           types.Int64  `tfsdk:"disk_gb"`
	TemplateHashID   types.String `tfsdk:"template_hash_id"`
	OnStartCmd       types.String `tfsdk:"on_start_cmd"`
	SSHTimeout       types.String `tfsdk:"ssh_timeout"`
	OnConflict       types.String `tfsdk:"on_conflict"`
	AuthorizedKeys   types.Set    `tfsdk:"authorized_keys"`
	RetainPrivateKey types.Bool   `tfsdk:"retain_private_key"`

	ID            types.String   `tfsdk:"id"`
	Status        types.String   `tfsdk:"status"`
	Cloud         types.String   `tfsdk:"cloud"`
	GPUType       types.String   `tfsdk:"gpu_type"`
	GPUCount      types.Int64    `tfsdk:"gpu_count"`
	VRAMGB        types.Int64    `tfsdk:"vram_gb"`
	Location      types.String   `tfsdk:"location"`
	PricePerHour  types.Float64  `tfsdk:"price_per_hour"`
	Mark          types.String   `tfsdk:"mark"`
	ShopperURL    types.String   `tfsdk:"shopper_url"`
	CreatedAt     types.String   `tfsdk:"created_at"`
	ExpiresAt     types.String   `tfsdk:"expires_at"`
	ReservedHours types.Int64    `tfsdk:"reserved_hours"`
	SSH           types.Object   `tfsdk:"ssh"`
	Timeouts      timeouts.Value `tfsdk:"timeouts"`
}

// equal reports whether all attributes have the same values.
func (m model) equal(other model) bool {
	a, b := reflect.ValueOf(m), reflect.ValueOf(other)
	for i := range a.NumField() {
		x, isValue := a.Field(i).Interface().(attr.Value)
		y, _ := b.Field(i).Interface().(attr.Value)
		if !isValue || !x.Equal(y) {
			return false
		}
	}
	return true
}

// identityModel is the resource's identity.
type identityModel struct {
	ID types.String `tfsdk:"id"`
}

// defaultHours is the reservation if none is configured, the shortest possible.
const defaultHours = 1

// maxHours, a month, catches typing errors.
const maxHours = 31 * 24

// hours are the requested hours, 0 if none are.
func (m model) hours() int { return int(m.ReservationHours.ValueInt64()) }

// reserved are the hours that the session is reserved for. A state from before the attribute existed has the requested hours
// instead.
func (m model) reserved() int {
	if m.ReservedHours.IsNull() {
		return m.hours()
	}
	return int(m.ReservedHours.ValueInt64())
}

// requirements converts the attribute. Unknown parts require nothing.
func requirements(ctx context.Context, value types.Object) (rental.Requirements, diag.Diagnostics) {
	var diags diag.Diagnostics
	required := attrs.Object[needs.Model](ctx, value, &diags).Requirements(ctx, &diags)
	return required, diags
}

// names are the names under which machines of this resource are rented.
func (m model) names() rental.Names {
	return rental.Names{Name: m.Name.ValueString(), Prefix: m.NamePrefix.ValueString()}
}

// prefixAfter is the name prefix of the machine in m, given the planned prefix. It is the planned one if the machine's name
// begins with it, so that such a change replaces nothing.
func (m model) prefixAfter(plan types.String) types.String {
	if plan.IsNull() || rental.MadeOf(plan.ValueString(), m.Name.ValueString()) {
		return plan
	}
	return m.NamePrefix
}

// order is the rental that the plan asks for.
func (m model) order(ctx context.Context) (rental.Order, diag.Diagnostics) {
	required, diags := requirements(ctx, m.Requirements)
	order := rental.Order{
		Names:              m.names(),
		Requirements:       required,
		MaxAttempts:        int(m.MaxAttempts.ValueInt64()),
		Hours:              max(m.hours(), defaultHours),
		WorkloadType:       m.WorkloadType.ValueString(),
		TemplateHashID:     m.TemplateHashID.ValueString(),
		OnStartCmd:         m.OnStartCmd.ValueString(),
		DiskGB:             int(m.DiskGB.ValueInt64()),
		SSHTimeoutMinutes:  int(validate.Span(m.SSHTimeout.ValueString()).Minutes()),
		ReplaceConflicting: m.OnConflict.ValueString() == conflictReplace,
	}
	if m.Requirements.IsNull() {
		order.OfferID = m.OfferID.ValueString()
	}
	return order, diags
}

// setRental fills in what is known of a rental. The host key is "" before the first login.
func (m *model) setRental(ctx context.Context, r *rental.Rental, hostKey string) diag.Diagnostics {
	m.OfferID = types.StringValue(r.Offer.ID)
	m.VRAMGB = types.Int64Value(int64(r.Offer.VRAMGB))
	m.Location = types.StringValue(r.Offer.Location)
	m.ShopperURL = types.StringValue(r.Service)
	return m.setSession(ctx, r.Session, sshattr.Keys{
		PrivateKey: attrs.Text(r.PrivateKey),
		HostKey:    attrs.Text(hostKey),
	})
}

// setSession fills in what the shopper reports of a session. It never reports the keys, so they are kept. An address that it
// no longer reports is kept too: without one, a deployment on the machine can't be planned and so can't be destroyed.
func (m *model) setSession(ctx context.Context, s shopper.Session, keys sshattr.Keys) diag.Diagnostics {
	m.ID = types.StringValue(s.ID)
	m.Status = types.StringValue(string(s.Status))
	m.Cloud = types.StringValue(s.Cloud)
	m.GPUType = types.StringValue(s.GPUType)
	m.GPUCount = types.Int64Value(int64(rental.GPUs(s.Cloud, s.GPUCount)))
	// Only the answer to the POST has the price that is paid; reads return the offer's. A value that stays is not written again:
	// in state it has more digits than a float64.
	if m.PricePerHour.IsNull() || m.PricePerHour.IsUnknown() || m.PricePerHour.ValueFloat64() < s.PricePerHour {
		m.PricePerHour = attrs.Exact(s.PricePerHour)
	}
	m.Mark = types.StringValue(s.ConsumerID)
	m.CreatedAt = attrs.Moment(s.CreatedAt)
	m.ExpiresAt = attrs.Moment(s.ExpiresAt)
	m.ReservedHours = hoursOf(s)
	if m.WorkloadType.IsNull() || m.WorkloadType.IsUnknown() {
		m.WorkloadType = attrs.Text(string(s.WorkloadType))
	}
	if s.SSHHost != "" {
		keys.Host, keys.Port, keys.User = attrs.Text(s.SSHHost), types.Int64Null(), attrs.Text(s.SSHUser)
		if s.SSHPort > 0 {
			keys.Port = types.Int64Value(int64(s.SSHPort))
		}
	}
	ssh, diags := types.ObjectValueFrom(ctx, sshattr.AttributeTypes(ctx).AttrTypes, keys)
	m.SSH = ssh
	m.unknownToNull()
	return diags
}

// setUpdated is setSession for a planned state. Values that were known in the plan stay as planned, because Terraform
// reports any other as the provider's defect; the next refresh sees what has changed.
func (m *model) setUpdated(ctx context.Context, s shopper.Session, keys sshattr.Keys) diag.Diagnostics {
	plan := *m
	diags := m.setSession(ctx, s, keys)
	if !plan.ReservedHours.IsUnknown() {
		m.ReservedHours = plan.ReservedHours
	}
	if !plan.ExpiresAt.IsUnknown() {
		m.ExpiresAt = plan.ExpiresAt
	}
	if !plan.SSH.IsUnknown() {
		m.SSH = plan.SSH
	}
	if !plan.Status.IsUnknown() {
		m.Status = plan.Status
	}
	m.Cloud, m.GPUType, m.GPUCount, m.PricePerHour = plan.Cloud, plan.GPUType, plan.GPUCount, plan.PricePerHour
	return diags
}

// unknownToNull sets what nobody reported to null, because state can't hold unknown values.
func (m *model) unknownToNull() {
	for _, s := range []*types.String{&m.OfferID, &m.Location, &m.ShopperURL} {
		if s.IsUnknown() {
			*s = types.StringNull()
		}
	}
	if m.VRAMGB.IsUnknown() {
		m.VRAMGB = types.Int64Null()
	}
}

// sshOf reads the ssh attribute. All parts are null if it is null or unknown.
func (m model) sshOf(ctx context.Context) (sshattr.Keys, diag.Diagnostics) {
	var diags diag.Diagnostics
	ssh := attrs.Object[sshattr.Keys](ctx, m.SSH, &diags)
	return ssh, diags
}
