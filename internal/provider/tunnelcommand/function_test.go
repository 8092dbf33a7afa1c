package tunnelcommand

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// start is the beginning of each command.
func start(port int) string {
	return fmt.Sprintf("ssh -N -L 127.0.0.1:%[1]d:127.0.0.1:%[1]d -o ExitOnForwardFailure=yes -o ServerAliveInterval=15 ", port)
}

func TestCommand(t *testing.T) {
	t.Parallel()
	jump := func(hostname string, port int, user string) host.Config {
		return host.Config{Host: "10.0.0.7", User: "root", Bastion: &host.Config{Host: hostname, Port: port, User: user}}
	}
	tests := []struct {
		name string
		to   host.Config
		port int
		want string
	}{
		{"usual", host.Config{Host: "1.2.3.4", Port: 22, User: "root"}, 8000, start(8000) + "root@1.2.3.4"},
		{
			"another port",
			host.Config{Host: "gpu.example.org", Port: 2222, User: "ubuntu"},
			9000,
			start(9000) + "-p 2222 ubuntu@gpu.example.org",
		},
		{
			"pinned host key",
			host.Config{Host: "box", HostKey: "ssh-ed25519 AAAA\n"},
			8000,
			start(8000) + "-o IgnoreUnknown=KnownHostsCommand -o 'KnownHostsCommand=/bin/echo %H ssh-ed25519 AAAA' box",
		},
		{"ssh's own defaults", host.Config{Host: "box"}, 8000, start(8000) + "box"},
		{"IPv6", host.Config{Host: "[2001:db8::1]", Port: 22, User: "root"}, 8000, start(8000) + "root@2001:db8::1"},
		{"hostile", host.Config{Host: "$(reboot)", Port: 22, User: "a;b"}, 8000, start(8000) + "'a;b@$(reboot)'"},
		{
			"an option",
			host.Config{Host: "-oProxyCommand=reboot", Port: 22},
			8000,
			start(8000) + "-- -oProxyCommand=reboot",
		},
		{"jump host", jump("jump.example.org", 22, "me"), 8000, start(8000) + "-J me@jump.example.org root@10.0.0.7"},
		{
			"jump host's port", jump("203.0.113.7", 2222, "me@corp"), 8000,
			start(8000) + "-J me@corp@203.0.113.7:2222 root@10.0.0.7",
		},
		{"jump host's own defaults", jump("jump", 0, ""), 8000, start(8000) + "-J jump root@10.0.0.7"},
		{"jump host's IPv6", jump("2001:db8::1", 2222, "me"), 8000, start(8000) + "-J 'me@[2001:db8::1]:2222' root@10.0.0.7"},
		{
			"hostile jump host", jump("$(reboot)", 2222, `corp\me`), 8000,
			start(8000) + `-o 'ProxyCommand=ssh -W '"'"'[%h]:%p'"'"' -p 2222 '"'"'corp\me@$(reboot)'"'"'' root@10.0.0.7`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := Command(test.to, test.port, test.port); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// How ssh itself parses a jump host.
func TestCommandAsSSHReadsIt(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("SKIPPED: no ssh on this machine")
	}
	run := func(command string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		shell := exec.CommandContext(ctx, "sh", "-c", command)
		shell.Env = append(os.Environ(), "SHELL=/bin/sh")
		out, _ := shell.CombinedOutput() // what is said is looked at
		return string(out)
	}
	through := host.Config{Host: "127.0.0.1", Port: 1, User: "root", Bastion: &host.Config{Host: "::1", Port: 2222, User: "me@corp"}}
	said := run(strings.Replace(Command(through, 8000, 8000), "ssh -N", "ssh -F none -G", 1)) // -G: tell the configuration, and end
	if !strings.Contains(said, "\nproxyjump me@corp@[::1]:2222\n") {
		t.Errorf("ssh says:\n%s", said)
	}
	// Its shell executes nothing in a name.
	planted := filepath.Join(t.TempDir(), "planted")
	for _, bastion := range []host.Config{
		{Host: "$(touch " + planted + ")", User: "me"},
		{Host: "127.0.0.1", Port: 1, User: "`touch " + planted + "`"},
		{Host: "127.0.0.1", Port: 1, User: "me;touch " + planted + ";"},
		{Host: "-oProxyCommand=touch " + planted},
		{Host: "127.0.0.1", Port: 1, User: "'; touch " + planted + " '"},
		{Host: "127.0.0.1", Port: 1, User: "%n$(touch " + planted + ")"},
	} {
		through.Bastion = &bastion
		run(strings.Replace(Command(through, 8000, 8000), "ssh -N", "ssh -F none -N", 1))
		if _, err := os.Stat(planted); err == nil {
			t.Fatalf("a shell ran what is in %s", Command(through, 8000, 8000))
		}
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	login := func(host string, port types.Int64) attr.Value {
		return types.ObjectValueMust(loginTypes, map[string]attr.Value{"host": types.StringValue(host), "port": port, "user": types.StringValue("me")})
	}
	run := func(ssh attr.Value, port int64, bastions ...attr.Value) (string, *function.FuncError) {
		kinds := make([]attr.Type, len(bastions))
		for i := range kinds {
			kinds[i] = types.ObjectType{AttrTypes: loginTypes}
		}
		resp := function.RunResponse{Result: function.NewResultData(types.StringUnknown())}
		New().Run(t.Context(), function.RunRequest{Arguments: function.NewArgumentsData([]attr.Value{
			ssh, types.Int64Value(port), types.Int64Value(port), types.TupleValueMust(kinds, bastions),
		})}, &resp)
		result, _ := resp.Result.Value().(types.String)
		return result.ValueString(), resp.Error
	}
	if got := Command(host.Config{Host: "box"}, 8000, 9000); !strings.Contains(got, "-L 127.0.0.1:9000:127.0.0.1:8000 ") {
		t.Errorf("another port on this computer: %s", got)
	}
	own := types.Int64Null()
	for _, test := range []struct {
		want     string
		bastions []attr.Value
	}{
		{start(8000) + "me@h", nil},
		{start(8000) + "-J me@jump:2222 me@h", []attr.Value{login("jump", types.Int64Value(2222))}},
	} {
		if got, err := run(login("h", own), 8000, test.bastions...); err != nil || got != test.want {
			t.Errorf("got %q, %v, want %q", got, err, test.want)
		}
	}
	for _, test := range []struct {
		name     string
		argument int64
		ssh      attr.Value
		port     int64
		bastions []attr.Value
	}{
		{"no host", 0, login("", own), 8000, nil},
		{"ssh port", 0, login("h", types.Int64Value(70000)), 8000, nil},
		{"port 0", 1, login("h", own), 0, nil},
		{"port too high", 1, login("h", own), 65536, nil},
		{"jump host's name", 3, login("h", own), 8000, []attr.Value{login("", own)}},
		{"jump host's port", 3, login("h", own), 8000, []attr.Value{login("j", types.Int64Value(0))}},
		{"two jump hosts", 4, login("h", own), 8000, []attr.Value{login("j", own), login("k", own)}},
	} {
		if got, err := run(test.ssh, test.port, test.bastions...); err == nil || err.FunctionArgument == nil || *err.FunctionArgument != test.argument {
			t.Errorf("%s: got %q, %v", test.name, got, err)
		}
	}
}
