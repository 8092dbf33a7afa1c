package lifecycle

import (
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
)

func TestJudgeTools(t *testing.T) {
	t.Parallel()
	all := process.Tools{Compiler: "gcc", Pip: true}
	for name, test := range map[string]struct {
		tools     process.Tools
		installed bool
		install   string
		fact, way string // "" = nothing is found
	}{
		"all there":           {tools: all},
		"can be installed":    {tools: process.Tools{Apt: true}},
		"nothing, no way":     {tools: process.Tools{}, fact: "a C compiler", way: "gcc g++ libc6-dev ca-certificates python3-pip"},
		"no pip":              {tools: process.Tools{Compiler: "gcc"}, fact: "lacks pip", way: "python3-pip\""},
		"no pip, vLLM there":  {tools: process.Tools{Compiler: "gcc"}, installed: true},
		"no compiler, there":  {tools: process.Tools{Pip: true}, installed: true, fact: "a C compiler", way: "on_start_cmd = \"apt-get update"},
		"nobody installs":     {tools: process.Tools{Apt: true}, installed: true, install: "never", fact: "process.install is", way: "gcc"},
		"nobody has to, none": {tools: all, installed: true, install: "never"},
	} {
		r := &process.Host{Tools: test.tools, Options: process.Options{Install: test.install}}
		if test.installed {
			r.Program.Path = "/usr/local/bin/vllm"
		}
		found := (&survey{runtime: r}).judgeTools()
		switch {
		case test.fact == "" && len(found) > 0, test.fact != "" && len(found) != 1:
			t.Errorf("%s: %v", name, found)
		case test.fact != "" && (found[0].Code != "tools" || !strings.Contains(found[0].Fact, test.fact) || !strings.Contains(found[0].WayOut, test.way)):
			t.Errorf("%s: %v", name, found[0])
		}
	}
	if found := (&survey{runtime: &container.Engine{}}).judgeTools(); len(found) > 0 {
		t.Errorf("a container: %v", found)
	}
}
