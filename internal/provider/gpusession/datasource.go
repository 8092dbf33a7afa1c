package gpusession

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/source"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// lookTimeout bounds a read of the data source or the list.
const lookTimeout = 2 * time.Minute

// NewDataSource returns the data source shopper_gpu_session.
func NewDataSource() datasource.DataSource {
	return source.New(source.Config[dataModel]{
		Name: "gpu_session", Doing: "reading a session", Timeout: lookTimeout, AsksShopper: true,
		Text: "One session of any consumer: its remaining time, its cost, and whether SSH is up. If there is none, or" +
			" several have the name, the data source warns and everything else is null.",
		Attributes: dataAttributes, Read: readData,
		Validators: []datasource.ConfigValidator{datasourcevalidator.ExactlyOneOf(path.MatchRoot("id"), path.MatchRoot("name"))},
	})
}

type dataModel struct {
	sessionview.Model
	Timeouts timeouts.Value `tfsdk:"timeouts"`
}

func dataAttributes() map[string]schema.Attribute {
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
	return attributes
}

func readData(ctx context.Context, data *providerdata.Data, m *dataModel, diags *diagnostics) {
	session, err := find(ctx, data, m.ID.ValueString(), m.Name.ValueString())
	if shopper.IsNotFound(err) || errors.Is(err, errNotOne) { // an error would stand in the way of a destroy
		diags.Append(diagnostic.Warning("Could not find the session", err))
		return
	}
	if err != nil {
		diags.Append(diagnostic.NotRead("Could not read the session", err))
		return
	}
	views, d := sessionview.Show(ctx, data.Client, []shopper.Session{session}, time.Now())
	diags.Append(d...)
	m.Model = views[0]
}

// errNotOne is the error for a name that none or several sessions have.
var errNotOne = errors.New("not found")

func find(ctx context.Context, data *providerdata.Data, id, name string) (shopper.Session, error) {
	if id != "" {
		return data.Client.Session(ctx, id)
	}
	all, err := sessionview.Live(ctx, data.Client)
	if err != nil {
		return shopper.Session{}, err
	}
	var ids []string
	found := slices.DeleteFunc(all, func(s shopper.Session) bool {
		mark, ok := rental.ParseMark(s.ConsumerID)
		return !ok || mark.Consumer != data.Consumer || mark.Name != name
	})
	for _, s := range found {
		ids = append(ids, s.ID)
	}
	switch len(found) {
	case 0:
		return shopper.Session{}, fmt.Errorf("%w: %s has no session %q that is still active; find an ended one by its ID",
			errNotOne, data.Consumer, name)
	case 1:
		return found[0], nil
	}
	return shopper.Session{}, fmt.Errorf("%w: several sessions of %s have that name: %s; set id to select one", errNotOne,
		data.Consumer, strings.Join(ids, ", "))
}
