package vllmdeployment

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/identityschema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// identity is a deployment's identity, by which it is imported: its name, its session or else its machine, and the machine's jump
// host.
type identity struct {
	SessionID   types.String `tfsdk:"session_id"`
	Host        types.String `tfsdk:"host"`
	Port        types.Int64  `tfsdk:"port"`
	User        types.String `tfsdk:"user"`
	BastionHost types.String `tfsdk:"bastion_host"`
	BastionPort types.Int64  `tfsdk:"bastion_port"`
	BastionUser types.String `tfsdk:"bastion_user"`
	Name        types.String `tfsdk:"name"`
	Directory   types.String `tfsdk:"directory"`
}

// IdentitySchema describes what identifies a deployment.
func (r *Resource) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	text := func(description string) identityschema.StringAttribute {
		return identityschema.StringAttribute{OptionalForImport: true, Description: description}
	}
	port := identityschema.Int64Attribute{OptionalForImport: true, Description: "Port of its SSH server. Default 22."}
	user := text("User to log in to it as. Default root.")
	resp.IdentitySchema = identityschema.Schema{Attributes: map[string]identityschema.Attribute{
		"session_id":   text("ID of the machine's session. Either this or host."),
		"host":         text("Name or address of a machine that isn't rented."),
		"port":         port,
		"user":         user,
		"bastion_host": text("Name or address of the jump host, if there is one."),
		"bastion_port": port,
		"bastion_user": user,
		"name":         identityschema.StringAttribute{RequiredForImport: true, Description: "The server's name on the machine: server.name."},
		"directory":    text("The deployment's process.directory, where it has one."),
	}}
}

func (m model) identity(ctx context.Context, diags *diag.Diagnostics) identity {
	ref, options, ssh := m.ref(ctx, diags), m.processOptions(ctx, diags), m.sshOf(ctx, diags)
	id := identity{SessionID: m.SessionID, Name: types.StringValue(ref.Name), Directory: attrs.Text(options.Directory)}
	if m.SessionID.IsNull() {
		id.Host, id.Port, id.User = ssh.Host, ssh.Port, ssh.User
	}
	bastion := ssh.BastionKeys()
	id.BastionHost, id.BastionPort, id.BastionUser = bastion.Host, bastion.Port, bastion.User
	return id
}

// loginPattern is USER@HOST[:PORT], in three groups.
const loginPattern = `([^@/,]+)@(\[[^]/]+\]|[^:/@,]+)(?::([0-9]{1,5}))?`

// importID is SESSION/NAME or USER@HOST[:PORT]/NAME. The jump host's login and a comma may precede it; a colon and the directory of
// a process may follow it.
var importID = regexp.MustCompile(`^(?:` + loginPattern + `,)?(?:` + loginPattern + `|([^@/,]+))/([^/:]+)(?::(/.+))?$`)

func parseImportID(text string) (identity, error) {
	found := importID.FindStringSubmatch(text)
	if found == nil {
		return identity{}, errors.New("it must have the form [USER@JUMP_HOST[:PORT],]SESSION_ID/NAME[:DIRECTORY], with USER@HOST[:PORT]" +
			" instead of SESSION_ID if the machine isn't rented. NAME is the server's name on the machine, such as vllm-8000." +
			" DIRECTORY is process.directory, for a process that has that argument")
	}
	bastionPort, err := importPort(found[3])
	if err != nil {
		return identity{}, err
	}
	port, err := importPort(found[6])
	return identity{
		BastionUser: attrs.Text(found[1]), BastionHost: attrs.Text(found[2]), BastionPort: bastionPort,
		User: attrs.Text(found[4]), Host: attrs.Text(found[5]), Port: port,
		SessionID: attrs.Text(found[7]), Name: attrs.Text(found[8]), Directory: attrs.Text(found[9]),
	}, err
}

// importPort parses a port of an import ID, null for "".
func importPort(text string) (types.Int64, error) {
	if text == "" {
		return types.Int64Null(), nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return types.Int64Null(), fmt.Errorf("%s is no port", text)
	}
	return types.Int64Value(int64(port)), nil
}

// check says what is missing from an identity.
func (id identity) check() error {
	switch {
	case id.Name.ValueString() == "":
		return errors.New("name is missing")
	case id.SessionID.IsNull() == id.Host.IsNull():
		return errors.New("either session_id or host must be set")
	case id.BastionHost.IsNull() && (!id.BastionPort.IsNull() || !id.BastionUser.IsNull()):
		return errors.New("bastion_host is missing")
	}
	return nil
}

// ImportState takes over a server that a deployment has started, with the configuration that is stored on its machine. It logs in
// with the provider's ssh credentials.
func (r *Resource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "importing a deployment")
	var id identity
	var err error
	if req.ID == "" {
		resp.Diagnostics.Append(req.Identity.Get(ctx, &id)...)
		err = id.check()
	} else {
		id, err = parseImportID(req.ID)
	}
	if err != nil {
		resp.Diagnostics.AddError("Deployment can't be imported", "The import ID is invalid: "+err.Error()+".")
	}
	if resp.Diagnostics.HasError() || !r.data.Ready(&resp.Diagnostics) {
		return
	}
	place := r.locate(ctx, id, &resp.Diagnostics)
	at := r.decode(ctx, place, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	machine, err := r.connectOnce(ctx, &at)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not log in to the machine", err))
		return
	}
	defer machine.Close()
	status, err := lifecycle.Named(ctx, machine, id.Name.ValueString(), id.Directory.ValueString())
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Deployment can't be imported", err))
		return
	}
	m, was := r.adopt(ctx, machine, place, status, &resp.Diagnostics)
	m.HostKey, m.BastionHostKey = at.HostKey, at.BastionHostKey
	if resp.Diagnostics.HasError() {
		return
	}
	m.setReach(ctx, m.sshOf(ctx, &resp.Diagnostics), &resp.Diagnostics)
	resp.Diagnostics.Append(was.keep(ctx, resp.Private)...)
	m.store(ctx, &resp.State, resp.Identity, &resp.Diagnostics)
}

// locate returns the arguments that say how to log in to the machine.
func (r *Resource) locate(ctx context.Context, id identity, diags *diag.Diagnostics) map[string]any {
	var bastion any
	if jump := id.BastionHost.ValueString(); jump != "" {
		bastion = loginTo(jump, id.BastionPort, id.BastionUser)
	}
	session := id.SessionID.ValueString()
	if session == "" {
		ssh := loginTo(id.Host.ValueString(), id.Port, id.User)
		ssh["bastion"] = bastion
		return map[string]any{"ssh": ssh}
	}
	found, err := r.data.Client.Session(ctx, session)
	switch {
	case err != nil:
		diags.Append(diagnostic.Error("Could not read session "+session, err))
		return nil
	case found.Status.Terminal():
		diags.AddError("Session has ended", fmt.Sprintf("The status of session %s is %q: its machine is gone, and so is the"+
			" server.", session, found.Status))
	case found.SSHHost == "":
		diags.AddError("Session has no machine yet", fmt.Sprintf("The shopper reports no address for session %s.", session))
	}
	ssh := loginTo(found.SSHHost, attrs.Number(found.SSHPort), types.StringValue(found.SSHUser))
	ssh["bastion"] = bastion
	return map[string]any{"session_id": session, "ssh": ssh}
}

// loginTo returns the arguments of a login, with their defaults.
func loginTo(address string, port types.Int64, user types.String) map[string]any {
	return map[string]any{
		"host": address, "port": cmp.Or(port.ValueInt64(), host.DefaultPort), "user": cmp.Or(user.ValueString(), "root"),
	}
}

// configured is what is stored with a server for an import: its arguments, without secrets and without its machine.
type configured struct {
	Arguments map[string]any
	// KeyMade reports whether the provider made the API key.
	KeyMade bool
}

// note is what is stored with a server, as JSON.
func (r *Resource) note(ctx context.Context, plan model, keyMade bool, diags *diag.Diagnostics) string {
	described := r.schema(ctx)
	state := tfsdk.State{Schema: described, Raw: tftypes.NewValue(described.Type().TerraformType(ctx), nil)}
	diags.Append(state.Set(ctx, &plan)...)
	kept, err := arguments(described.Attributes, state.Raw)
	delete(kept, "session_id")
	delete(kept, "ssh")
	kept["ca_certificate"] = plan.CACertificate.ValueStringPointer() // of a certificate that the provider made
	text, marshalErr := json.Marshal(configured{Arguments: kept, KeyMade: keyMade})
	if err := errors.Join(err, marshalErr); err != nil {
		diags.AddError("The provider has a defect", err.Error())
	}
	return string(text)
}

// arguments are the attributes that a configuration may set and that aren't sensitive, as values for [json.Marshal].
func arguments(of map[string]schema.Attribute, value tftypes.Value) (map[string]any, error) {
	fields, all := map[string]tftypes.Value{}, map[string]any{}
	if err := value.As(&fields); err != nil {
		return all, err
	}
	for name, attribute := range of {
		if attribute.IsSensitive() || (!attribute.IsRequired() && !attribute.IsOptional()) {
			continue
		}
		var content any
		var err error
		if nested, ok := attribute.(schema.SingleNestedAttribute); ok && !fields[name].IsNull() {
			content, err = arguments(nested.Attributes, fields[name])
		} else {
			content, err = attrs.Plain(fields[name])
		}
		if err != nil {
			return all, err
		}
		all[name] = content
	}
	return all, nil
}

// decode turns arguments into a model. Missing arguments are null; those that the schema doesn't know are ignored.
func (r *Resource) decode(ctx context.Context, arguments map[string]any, diags *diag.Diagnostics) model {
	var m model
	described := r.schema(ctx)
	text, err := json.Marshal(arguments)
	if err == nil {
		var raw tftypes.Value
		raw, err = tftypes.ValueFromJSONWithOpts(text, described.Type().TerraformType(ctx),
			tftypes.ValueFromJSONOpts{IgnoreUndefinedAttributes: true}) // another version's
		diags.Append((&tfsdk.State{Schema: described, Raw: raw}).Get(ctx, &m)...)
	}
	if err != nil {
		diags.AddError("Deployment can't be imported", "The configuration that is stored on its machine can't be decoded: "+err.Error()+".")
	}
	return m
}

// adopt returns the state of a server that was found on a machine, and how it was launched.
func (r *Resource) adopt(ctx context.Context, machine deploy.Machine, place map[string]any, status deploy.Status,
	diags *diag.Diagnostics,
) (model, launched) {
	var kept configured
	was := launchedFrom(status)
	if err := json.Unmarshal([]byte(status.Note), &kept); err != nil || kept.Arguments == nil {
		diags.AddError("Deployment can't be imported", fmt.Sprintf("The machine has no stored configuration for the server %s, so no"+
			" deployment of this provider started it.", status.Name))
		return model{}, was
	}
	maps.Copy(kept.Arguments, place)
	m := r.decode(ctx, kept.Arguments, diags)
	gpus, err := lifecycle.GPUs(ctx, machine)
	if err != nil {
		diags.Append(m.warning("Could not list the GPUs", err))
	}
	m.setGPUs(ctx, gpus, diags)
	m.setInspected(ctx, status, diags)
	key, err := lifecycle.APIKey(ctx, machine, status.Ref)
	if kept.KeyMade {
		m.APIKey = attrs.Text(key)
	}
	switch {
	case err == nil:
		m.ask(ctx, lifecycle.Client(machine, m.trusted(ctx, diags), status.Ref, key), &was, status, diags)
	case kept.KeyMade:
		diags.Append(m.warning("Could not read the API key", fmt.Errorf("the next apply creates a new key and restarts the server:"+
			" %w", err)))
	}
	return m, was
}

// askLimit bounds the requests that an import sends to a server.
const askLimit = 20 * time.Second

// ask fills in what the server reports: its version, its context length, and which of its LoRA adapters it serves. If the server
// doesn't answer, they stay as they are.
func (m *model) ask(ctx context.Context, api *vllm.Client, was *launched, status deploy.Status, diags *diag.Diagnostics) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	version, err := api.Version(ctx)
	if err != nil {
		return
	}
	m.VLLMVersion = attrs.Text(version)
	models, err := api.Models(ctx)
	if err != nil {
		return
	}
	for _, served := range models {
		if served.ID == cmp.Or(m.ServedModelName.ValueString(), m.Model.ValueString()) {
			m.ServedMaxModelLen = attrs.Number(served.MaxModelLen)
		}
	}
	has, noted := adaptersOf(models), texts(ctx, m.LoRAAdapters, "", diags)
	served := map[string]string{}
	for name := range noted {
		if path, ok := has[name]; ok {
			served[name] = path
		}
	}
	if !maps.Equal(served, noted) { // changed without a restart
		m.setAdapters(ctx, served, diags)
		was.Adapters, was.Run = served, runOf(status)
	}
}

// store saves the deployment and its identity.
func (m model) store(ctx context.Context, state *tfsdk.State, identity *tfsdk.ResourceIdentity, diags *diag.Diagnostics) {
	diags.Append(state.Set(ctx, &m)...)
	diags.Append(identity.Set(ctx, m.identity(ctx, diags))...)
}
