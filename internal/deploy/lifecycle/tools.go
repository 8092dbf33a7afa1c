package lifecycle

import (
	"fmt"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// judgeTools tells what a process lacks that can't be installed on the machine.
func (s *survey) judgeTools() []deploy.Finding {
	r, ok := s.runtime.(*process.Host)
	if !ok {
		return nil
	}
	packages := r.Tools.Missing(r.Program.Path == "")
	if len(packages) == 0 || (r.Tools.Apt && r.Options.Install != process.InstallNever) {
		return nil
	}
	var lacks []string
	if r.Tools.Compiler == "" {
		lacks = append(lacks, "a C compiler, which vLLM's start uses (Triton)")
	}
	if r.Program.Path == "" && !r.Tools.Pip {
		lacks = append(lacks, "pip, which installs uv")
	}
	because := "packages can't be installed: there is no apt-get, or no root and no sudo without a password"
	if r.Tools.Apt {
		because = "process.install is \"never\""
	}
	return one(deploy.Blocking, codeTools, fmt.Sprintf("The machine lacks %s, and %s.", strings.Join(lacks, " and "), because),
		fmt.Sprintf("Install what is missing, in the image or, on Vast.ai, with on_start_cmd = \"apt-get update && "+
			"DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends %s\".", strings.Join(packages, " ")))
}
