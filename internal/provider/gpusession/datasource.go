package gpusession

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/datasourcevalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sessionview"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// lookTimeout bounds the data source.
const lookTimeout = 2 * time.Minute

// DataSource is the data source shopper_gpu_session.
type DataSource struct {
	data *providerdata.Data
}

var (
	_ datasource.DataSourceWithConfigure        = (*DataSource)(nil)
	_ datasource.DataSourceWithConfigValidators = (*DataSource)(nil)
)

// NewDataSource returns the data source.
func NewDataSource() datasource.DataSource { return &DataSource{} }

type dataModel struct {
	sessionview.Model
	Timeouts timeouts.Value `tfsdk:"timeouts"`
}

// Metadata names the data source.
func (d *DataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_gpu_session"
}

// Configure takes what the provider's configuration made.
func (d *DataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the data source.
func (d *DataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	attributes := sessionview.Attributes()
	attributes["id"] = schema.StringAttribute{
		Optional: true, Computed: true, Validators: []validator.String{validate.String("must be a session's ID", shopper.ValidateID)},
		MarkdownDescription: "The session's ID. Set either this or `name`.",
	}
	attributes["name"] = schema.StringAttribute{
		Optional: true, Computed: true,
		Validators: []validator.String{validate.String("must be a name without a slash", rental.ValidateName)},
		MarkdownDescription: "The name in the session's mark. It is looked up among the sessions of the provider's `consumer_id` that" +
			" have not ended. Null for a session that this provider didn't rent.",
	}
	attributes["timeouts"] = timeouts.AttributesWithOpts(ctx, timeouts.Opts{ReadDescription: "Default `2m`."})
	resp.Schema = schema.Schema{
		MarkdownDescription: "One session of any consumer: its remaining time, its cost, and whether SSH is up. If there is none, or" +
			" several have the name, the data source warns and everything else is null.",
		Attributes: attributes,
	}
}

// ConfigValidators refuse a search by nothing or by two things.
func (d *DataSource) ConfigValidators(context.Context) []datasource.ConfigValidator {
	return []datasource.ConfigValidator{datasourcevalidator.ExactlyOneOf(path.MatchRoot("id"), path.MatchRoot("name"))}
}

// Read finds the session.
func (d *DataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "reading a session")
	var m dataModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() || !d.data.Ready(&resp.Diagnostics) {
		return
	}
	timeout, diags := m.Timeouts.Read(ctx, lookTimeout)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	session, err := d.find(ctx, m.ID.ValueString(), m.Name.ValueString())
	if shopper.IsNotFound(err) || errors.Is(err, errNotOne) { // no error, which would stand in the way of a destroy
		resp.Diagnostics.Append(diagnostic.Warning("Could not find the session", err))
		resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
		return
	}
	if err != nil {
		resp.Diagnostics.Append(diagnostic.NotRead("Could not read the session", err))
		return
	}
	views, diags := sessionview.Show(ctx, d.data.Client, []shopper.Session{session}, time.Now())
	resp.Diagnostics.Append(diags...)
	m.Model = views[0]
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// errNotOne is returned for a name that isn't that of one session.
var errNotOne = errors.New("not found")

func (d *DataSource) find(ctx context.Context, id, name string) (shopper.Session, error) {
	if id != "" {
		return d.data.Client.Session(ctx, id)
	}
	all, err := sessionview.Live(ctx, d.data.Client)
	if err != nil {
		return shopper.Session{}, err
	}
	var found []shopper.Session
	var ids []string
	for _, s := range all {
		mark, ok := rental.ParseMark(s.ConsumerID)
		if ok && mark.Consumer == d.data.Consumer && mark.Name == name {
			found, ids = append(found, s), append(ids, s.ID)
		}
	}
	switch len(found) {
	case 0:
		return shopper.Session{}, fmt.Errorf("%w: %s has no session %q that is still active; find an ended one by its ID",
			errNotOne, d.data.Consumer, name)
	case 1:
		return found[0], nil
	}
	return shopper.Session{}, fmt.Errorf("%w: several sessions of %s have that name: %s; set id to select one", errNotOne,
		d.data.Consumer, strings.Join(ids, ", "))
}
