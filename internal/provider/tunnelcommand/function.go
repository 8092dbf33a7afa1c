// Package tunnelcommand is the function tunnel_command: the line for a shell that
// opens a machine's port on this side.
package tunnelcommand

import (
	"context"
	"net"
	"strconv"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// Function is tunnel_command.
type Function struct{}

var _ function.Function = (*Function)(nil)

// New returns the function.
func New() function.Function { return &Function{} }

// Metadata names the function.
func (f *Function) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "tunnel_command"
}

// Definition describes the function.
func (f *Function) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "The command that opens a machine's port on this side",
		MarkdownDescription: "Returns an `ssh` command line that opens the port of a machine's loopback on this side, quoted for a shell." +
			" It holds no key: `ssh` finds that in its agent or configuration.",
		Parameters: []function.Parameter{
			function.ObjectParameter{
				Name:                "ssh",
				MarkdownDescription: "How to log in: an object with `host`, `port` and `user`, such as a session's `ssh`.",
				AttributeTypes:      map[string]attr.Type{"host": types.StringType, "port": types.Int64Type, "user": types.StringType},
			},
			function.Int64Parameter{Name: "port", MarkdownDescription: "The port, on the machine and on this side."},
		},
		Return: function.StringReturn{},
	}
}

// target is where the command logs in.
type target struct {
	Host types.String `tfsdk:"host"`
	Port types.Int64  `tfsdk:"port"`
	User types.String `tfsdk:"user"`
}

// Run makes the command.
func (f *Function) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var ssh basetypes.ObjectValue
	var port int64
	resp.Error = req.Arguments.Get(ctx, &ssh, &port)
	if resp.Error != nil {
		return
	}
	var to target
	if diags := ssh.As(ctx, &to, basetypes.ObjectAsOptions{}); diags.HasError() {
		resp.Error = function.FuncErrorFromDiags(ctx, diags)
		return
	}
	switch {
	case to.Host.ValueString() == "":
		resp.Error = function.NewArgumentFuncError(0, "ssh.host must not be empty")
	case !to.Port.IsNull() && (to.Port.ValueInt64() < 1 || to.Port.ValueInt64() > 65535):
		resp.Error = function.NewArgumentFuncError(0, "ssh.port must be between 1 and 65535")
	case port < 1 || port > 65535:
		resp.Error = function.NewArgumentFuncError(1, "port must be between 1 and 65535")
	default:
		resp.Error = resp.Result.Set(ctx, Command(to.Host.ValueString(), int(to.Port.ValueInt64()), to.User.ValueString(), int(port)))
	}
}

// Command is the line that opens the port of the machine's loopback on this side.
// Port 0 and an empty user leave ssh's own defaults.
func Command(address string, sshPort int, user string, port int) string {
	at := strconv.Itoa(port)
	args := []string{"ssh", "-N", "-L", at + ":" + net.JoinHostPort("127.0.0.1", at)}
	if sshPort > 0 && sshPort != host.DefaultPort {
		args = append(args, "-p", strconv.Itoa(sshPort))
	}
	to := strings.Trim(address, "[]")
	if user != "" {
		to = user + "@" + to
	}
	if strings.HasPrefix(to, "-") {
		args = append(args, "--") // a name, whatever it looks like
	}
	return host.Quote(append(args, to)...)
}
