// Package tunnelcommand is the function format_tunnel_command: a shell command that forwards a machine's port to the user's
// computer.
package tunnelcommand

import (
	"context"
	"errors"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// Function is format_tunnel_command.
type Function struct{}

var _ function.Function = (*Function)(nil)

// New returns the function.
func New() function.Function { return &Function{} }

// Metadata names the function.
func (f *Function) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "format_tunnel_command"
}

// Definition describes the function.
func (f *Function) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "Command that forwards a machine's port to your computer",
		MarkdownDescription: "Returns an `ssh` command line, quoted for a shell, that forwards a port of the machine's loopback address" +
			" to your computer. It contains no private key: `ssh` finds one in its agent or configuration, or append `-i FILE`.\n\nThe" +
			" machine and the jump host are objects with `host`, `port` and `user`, of which `port` and `user` may be null. Other" +
			" attributes are ignored, so you can pass a session's or a deployment's `ssh` and its `bastion`.",
		Parameters: []function.Parameter{
			function.ObjectParameter{
				Name:                "ssh",
				MarkdownDescription: "How to log in: object with `host`, `port` and `user`, such as a session's `ssh`.",
				AttributeTypes:      loginTypes,
			},
			function.Int64Parameter{Name: "port", MarkdownDescription: "Port on the machine's loopback address."},
			function.Int64Parameter{
				Name: "local_port", MarkdownDescription: "Port on your computer. Tunnels that are open at the same time need different" +
					" ports.",
			},
		},
		VariadicParameter: function.ObjectParameter{
			Name: "bastion", AttributeTypes: loginTypes, // OpenTofu 1.12 passes no null arguments
			MarkdownDescription: "Jump host through which the machine is reached, at most one. Pass one that may be null as" +
				" `var.ssh.bastion[*]...`.",
		},
		Return: function.StringReturn{},
	}
}

var loginTypes = map[string]attr.Type{"host": types.StringType, "port": types.Int64Type, "user": types.StringType}

// target says where to log in.
type target struct {
	Host types.String `tfsdk:"host"`
	Port types.Int64  `tfsdk:"port"`
	User types.String `tfsdk:"user"`
}

// Run makes the command.
func (f *Function) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var ssh basetypes.ObjectValue
	var port, local int64
	var bastions []basetypes.ObjectValue
	resp.Error = req.Arguments.Get(ctx, &ssh, &port, &local, &bastions)
	if resp.Error != nil {
		return
	}
	to, err := login(ctx, ssh)
	switch {
	case err != nil:
		resp.Error = function.NewArgumentFuncError(0, "ssh: "+err.Error())
		return
	case port < 1 || port > 65535:
		resp.Error = function.NewArgumentFuncError(1, "port must be between 1 and 65535")
		return
	case local < 1 || local > 65535:
		resp.Error = function.NewArgumentFuncError(2, "local_port must be between 1 and 65535")
		return
	case len(bastions) > 1:
		resp.Error = function.NewArgumentFuncError(4, "bastion: at most one jump host is possible")
		return
	}
	if len(bastions) == 1 {
		through, err := login(ctx, bastions[0])
		if err != nil {
			resp.Error = function.NewArgumentFuncError(3, "bastion: "+err.Error())
			return
		}
		to.Bastion = &through
	}
	resp.Error = resp.Result.Set(ctx, Command(to, int(port), int(local)))
}

func login(ctx context.Context, object basetypes.ObjectValue) (host.Config, error) {
	var to target
	if diags := object.As(ctx, &to, basetypes.ObjectAsOptions{}); diags.HasError() {
		return host.Config{}, errors.New(diags.Errors()[0].Detail())
	}
	switch {
	case to.Host.ValueString() == "":
		return host.Config{}, errors.New("host must not be empty")
	case !to.Port.IsNull() && (to.Port.ValueInt64() < 1 || to.Port.ValueInt64() > 65535):
		return host.Config{}, errors.New("port must be between 1 and 65535")
	}
	return host.Config{Host: to.Host.ValueString(), Port: int(to.Port.ValueInt64()), User: to.User.ValueString()}, nil
}

// Command is the shell command that forwards local, a port of this computer, to port on the machine's loopback address,
// through the jump host if there is one. The command fails if the local port is taken, and ends when the machine is gone.
// Port 0 and an empty user leave ssh's own defaults. ssh accepts a pinned host key without asking; the command contains
// nothing else of the login.
func Command(to host.Config, port, local int) string {
	address := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	args := []string{"ssh", "-N", "-L", address(local) + ":" + address(port), "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15"}
	if key := strings.Fields(to.HostKey); len(key) >= 2 && !strings.Contains(strings.TrimSpace(to.HostKey), "\n") {
		// OpenSSH 8.5 and newer know the option (https://man.openbsd.org/ssh_config#KnownHostsCommand).
		args = append(args, "-o", "IgnoreUnknown=KnownHostsCommand", "-o", "KnownHostsCommand=/bin/echo %H "+key[0]+" "+key[1])
	}
	if to.Bastion != nil {
		args = append(args, jump(*to.Bastion)...)
	}
	return host.Quote(append(args, arguments(to)...)...)
}

// arguments say where ssh logs in.
func arguments(to host.Config) []string {
	var args []string
	if to.Port > 0 && to.Port != host.DefaultPort {
		args = append(args, "-p", strconv.Itoa(to.Port))
	}
	name := account(to.User, strings.Trim(to.Host, "[]"))
	if strings.HasPrefix(name, "-") {
		args = append(args, "--") // a name, whatever it looks like
	}
	return append(args, name)
}

func account(user, address string) string {
	if user == "" {
		return address
	}
	return user + "@" + address
}

// plain matches names that ssh passes unchanged through the shell in which it starts itself for a jump host.
var plain = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@-]*$`)

// jump are the arguments that lead through a jump host. ssh starts itself again for it, through a shell: anything that isn't
// plain is quoted for that shell too.
func jump(through host.Config) []string {
	address := strings.Trim(through.Host, "[]")
	if (net.ParseIP(address) == nil && !plain.MatchString(address)) || (through.User != "" && !plain.MatchString(through.User)) {
		login := strings.ReplaceAll(host.Quote(arguments(through)...), "%", "%%") // ssh would expand it
		return []string{"-o", "ProxyCommand=ssh -W '[%h]:%p' " + login}
	}
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	if through.Port > 0 && through.Port != host.DefaultPort {
		address += ":" + strconv.Itoa(through.Port)
	}
	return []string{"-J", account(through.User, address)}
}
