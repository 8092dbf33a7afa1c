// Package templates is the data source shopper_templates: what Vast.ai machines can be started from.
package templates

import (
	"context"
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
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/source"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// NewDataSource returns the data source shopper_templates.
func NewDataSource() datasource.DataSource {
	return source.New(source.Config[model]{
		Name: "templates", Doing: "listing templates", Timeout: 2 * time.Minute, AsksShopper: true,
		Text:       "Vast.ai's templates, for a session's `template_hash_id`. Fails if the shopper has no Vast.ai account.",
		Attributes: attributes, Read: read,
	})
}

type model struct {
	OfferID     types.String    `tfsdk:"offer_id"`
	NameHas     types.String    `tfsdk:"name_contains"`
	Recommended types.Bool      `tfsdk:"recommended"`
	Templates   []templateModel `tfsdk:"templates"`
	Timeouts    timeouts.Value  `tfsdk:"timeouts"`
}

type templateModel struct {
	HashID            types.String `tfsdk:"hash_id"`
	Name              types.String `tfsdk:"name"`
	Image             types.String `tfsdk:"image"`
	Tag               types.String `tfsdk:"tag"`
	Env               types.String `tfsdk:"env"`
	OnStart           types.String `tfsdk:"on_start"`
	RunType           types.String `tfsdk:"run_type"`
	Args              types.String `tfsdk:"args"`
	UseSSH            types.Bool   `tfsdk:"use_ssh"`
	SSHDirect         types.Bool   `tfsdk:"ssh_direct"`
	Recommended       types.Bool   `tfsdk:"recommended"`
	RecommendedDiskGB types.Int64  `tfsdk:"recommended_disk_gb"`
	ExtraFilters      types.String `tfsdk:"extra_filters"`
	CreatedAt         types.String `tfsdk:"created_at"`
	CountCreated      types.Int64  `tfsdk:"count_created"`
}

func attributes() map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"offer_id": argument.Text("Return only templates that this offer can run. Offers of other clouds have none.",
			validate.String("must be an offer's ID", shopper.ValidateID)),
		"name_contains": argument.Text("Return only templates whose name contains this text. Case doesn't matter.", validate.NotEmpty()),
		"recommended":   argument.Flag("Return only templates that Vast.ai recommends (true), or doesn't (false)."),
		"templates": result.List("The templates.", map[string]schema.Attribute{
			"hash_id":             result.Text("Value for `template_hash_id`."),
			"name":                result.Text("The template's name."),
			"image":               result.Text("The container's image."),
			"tag":                 result.Text("The image's tag."),
			"env":                 result.Text("Docker flags for environment variables and ports."),
			"on_start":            result.Text("Command that runs at the start."),
			"run_type":            result.Text("Launch mode, such as `ssh`."),
			"args":                result.Text("The image's arguments."),
			"use_ssh":             result.Flag("Whether the machine accepts SSH logins."),
			"ssh_direct":          result.Flag("Whether SSH connects directly instead of through Vast.ai's proxy."),
			"recommended":         result.Flag("Whether Vast.ai recommends the template."),
			"recommended_disk_gb": result.Number("Recommended disk size in GB."),
			"extra_filters":       result.Text("Requirements for the machine, in JSON."),
			"created_at":          result.Text("When the template was created (RFC 3339, UTC)."),
			"count_created":       result.Number("How often the template has been used." + attrs.Moves),
		}),
	}
}

func read(ctx context.Context, data *providerdata.Data, m *model, diags *diag.Diagnostics) {
	all, err := data.Client.Templates(ctx)
	if err == nil && !m.OfferID.IsNull() {
		var compatible []shopper.CompatibleTemplate
		compatible, err = data.Client.CompatibleTemplates(ctx, m.OfferID.ValueString())
		all = slices.DeleteFunc(all, func(t shopper.Template) bool {
			return !slices.ContainsFunc(compatible, func(c shopper.CompatibleTemplate) bool { return c.HashID == t.HashID })
		})
	}
	if err != nil {
		diags.Append(diagnostic.NotRead("Could not list templates", err))
		return
	}
	m.Templates = []templateModel{}
	for _, t := range all {
		if m.wants(t) {
			m.Templates = append(m.Templates, toModel(t))
		}
	}
}

func (m model) wants(t shopper.Template) bool {
	return strings.Contains(strings.ToLower(t.Name), strings.ToLower(m.NameHas.ValueString())) &&
		(m.Recommended.IsNull() || m.Recommended.ValueBool() == t.Recommended)
}

func toModel(t shopper.Template) templateModel {
	return templateModel{
		HashID:            types.StringValue(t.HashID),
		Name:              attrs.Text(t.Name),
		Image:             attrs.Text(t.Image),
		Tag:               attrs.Text(t.Tag),
		Env:               attrs.Text(t.Env),
		OnStart:           attrs.Text(t.OnStart),
		RunType:           attrs.Text(t.RunType),
		Args:              attrs.Text(t.Args),
		UseSSH:            types.BoolValue(t.UseSSH),
		SSHDirect:         types.BoolValue(t.SSHDirect),
		Recommended:       types.BoolValue(t.Recommended),
		RecommendedDiskGB: attrs.Number(max(t.RecommendedDiskGB, 0)),
		ExtraFilters:      attrs.Text(t.ExtraFilters),
		CreatedAt:         attrs.Moment(t.CreatedAt),
		CountCreated:      types.Int64Value(int64(t.CountCreated)),
	}
}
