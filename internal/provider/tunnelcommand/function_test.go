package tunnelcommand

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func TestCommand(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		address string
		sshPort int
		user    string
		port    int
		want    string
	}{
		{"usual", "1.2.3.4", 22, "root", 8000, "ssh -N -L 8000:127.0.0.1:8000 root@1.2.3.4"},
		{"another port", "gpu.example.org", 2222, "ubuntu", 9000, "ssh -N -L 9000:127.0.0.1:9000 -p 2222 ubuntu@gpu.example.org"},
		{"ssh's own defaults", "box", 0, "", 8000, "ssh -N -L 8000:127.0.0.1:8000 box"},
		{"IPv6", "[2001:db8::1]", 22, "root", 8000, "ssh -N -L 8000:127.0.0.1:8000 root@2001:db8::1"},
		{"hostile", "$(reboot)", 22, "a;b", 8000, "ssh -N -L 8000:127.0.0.1:8000 'a;b@$(reboot)'"},
		{"an option", "-oProxyCommand=reboot", 22, "", 8000, "ssh -N -L 8000:127.0.0.1:8000 -- -oProxyCommand=reboot"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := Command(test.address, test.sshPort, test.user, test.port); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	run := func(host string, sshPort types.Int64, port int64) (string, *function.FuncError) {
		ssh := types.ObjectValueMust(
			map[string]attr.Type{"host": types.StringType, "port": types.Int64Type, "user": types.StringType},
			map[string]attr.Value{"host": types.StringValue(host), "port": sshPort, "user": types.StringValue("root")})
		resp := function.RunResponse{Result: function.NewResultData(types.StringUnknown())}
		New().Run(t.Context(), function.RunRequest{Arguments: function.NewArgumentsData([]attr.Value{ssh, types.Int64Value(port)})}, &resp)
		result, _ := resp.Result.Value().(types.String)
		return result.ValueString(), resp.Error
	}
	if got, err := run("h", types.Int64Null(), 8000); err != nil || got != "ssh -N -L 8000:127.0.0.1:8000 root@h" {
		t.Errorf("got %q, %v", got, err)
	}
	for name, call := range map[string]func() (string, *function.FuncError){
		"no host":       func() (string, *function.FuncError) { return run("", types.Int64Value(22), 8000) },
		"port 0":        func() (string, *function.FuncError) { return run("h", types.Int64Value(22), 0) },
		"port too high": func() (string, *function.FuncError) { return run("h", types.Int64Value(22), 65536) },
		"ssh port":      func() (string, *function.FuncError) { return run("h", types.Int64Value(70000), 8000) },
	} {
		if got, err := call(); err == nil || err.FunctionArgument == nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}
