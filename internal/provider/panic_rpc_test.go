package provider_test

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	ours "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/gpusession"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// fragile is the shopper's client with a defect.
type fragile struct {
	*shopper.Client
	broken string // the call that panics
}

func (f *fragile) fall(call string) {
	if f.broken == call {
		nothing := map[string]*shopper.Session{}
		nothing[call].ID = call
	}
}

// Session reads a session, or panics.
func (f *fragile) Session(ctx context.Context, id string) (shopper.Session, error) {
	f.fall("Session")
	return f.Client.Session(ctx, id)
}

// Delete releases a session, or panics.
func (f *fragile) Delete(ctx context.Context, id string) error {
	f.fall("Delete")
	return f.Client.Delete(ctx, id)
}

// Extend extends a reservation, or panics.
func (f *fragile) Extend(ctx context.Context, id string, hours int) (time.Time, error) {
	f.fall("Extend")
	return f.Client.Extend(ctx, id, hours)
}

// faked is the provider with that client.
type faked struct {
	provider.Provider
	service *fragile
	journal string
}

// Configure passes the client on.
func (f *faked) Configure(_ context.Context, _ provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	resp.ResourceData = &providerdata.Data{
		Client: f.service.Client, Consumer: "terraform",
		Renter: rental.New(f.service, rental.Config{Consumer: "terraform", Journal: journal.Open(f.journal, "")}),
	}
}

// Resources lists the resource under test.
func (f *faked) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{gpusession.NewResource}
}

// DataSources lists none.
func (f *faked) DataSources(context.Context) []func() datasource.DataSource { return nil }

// A defect of the provider is an error, and what it had rented by then stays in
// state, from where it can be destroyed.
func TestPanicKeepsState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	service := &fragile{Client: w.client(t)}
	server := providerserver.NewProtocol6(&faked{Provider: ours.New("test"), service: service, journal: w.journal})()
	schema, err := server.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	c := &core{t: t, ctx: t.Context(), server: server, schema: schema}
	expect(t, c.configure(nil))
	const defect = "ERROR: The provider has a defect"
	arguments := values{"name": "test", "offer_id": a5000}

	service.broken = "Session"
	made, diags := c.apply(sessionType, c.plan(sessionType, object{}, arguments))
	expect(t, diags, defect, "while renting a machine", "nil pointer", "report this")
	rented, err := w.rented()
	if err != nil {
		t.Fatal(err)
	}
	if made.state.IsNull() || text(t, made.state, "id") != rented.SessionID || text(t, made.state, "ssh.private_key") == "" {
		t.Fatalf("not all that it takes is in state: %s", made.state)
	}
	kept, diags := c.read(sessionType, made)
	expect(t, diags, defect, "while reading a session")
	if !kept.state.Equal(made.state) {
		t.Error("the refresh changed the state")
	}
	service.broken = ""
	running := w.untilRunning(t, c, made)
	service.broken = "Extend"
	p := c.plan(sessionType, running, with(arguments, values{"reservation_hours": 2}))
	kept, diags = c.apply(sessionType, p)
	expect(t, diags, defect, "while updating a session")
	if !kept.state.Equal(running.state) {
		t.Error("the update changed the state")
	}
	service.broken = "Delete"
	kept, diags = c.destroy(sessionType, running)
	expect(t, diags, defect, "while releasing a session")
	if kept.state.IsNull() {
		t.Error("it has left state")
	}
	service.broken = ""
	left, diags := c.destroy(sessionType, kept)
	expect(t, diags)
	if !left.state.IsNull() {
		t.Error("it is still in state")
	}
}

// untilRunning refreshes a session until it runs.
func (w *world) untilRunning(t *testing.T, c *core, o object) object {
	t.Helper()
	testkit.Eventually(t, "the session to run", func() bool {
		read, diags := c.read(sessionType, o)
		expect(t, diags)
		o = read
		return text(t, o.state, "status") == "running"
	})
	return o
}
