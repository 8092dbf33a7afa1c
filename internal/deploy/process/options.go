// Package process runs vLLM servers as processes, on machines without a container engine. Its scripts are fixed, and arguments
// are quoted. Secrets are sent on standard input: they are in no process list and on no disk.
package process

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// Options say how vLLM is found or installed.
type Options struct {
	// Version is the vLLM release to run, such as "0.33.0"; "" = the one that the machine has, else the newest known one.
	Version string
	// Install is "missing" (or "") to install the release with uv if the machine lacks it, or "never".
	Install string
	// Directory is an absolute path on the machine; "" = [DefaultDirectory] in the user's home.
	Directory string
}

// DefaultDirectory holds vLLM and the servers' records, in the user's home.
const DefaultDirectory = ".shopper-vllm"

// Values of Options.Install.
const (
	InstallMissing = "missing"
	InstallNever   = "never"
)

var (
	namePattern    = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$`)
	versionPattern = regexp.MustCompile(`^[0-9][0-9A-Za-z.+!-]{0,63}$`)
)

// Validate returns all that is wrong with the options, and with the deployment's name, which is part of a directory's.
func (o Options) Validate(name string) error {
	var problems []error
	if !namePattern.MatchString(name) {
		problems = append(problems, fmt.Errorf("a name is 2 to 128 letters, digits, '_', '.' and '-', starting with a letter or digit; got %q", name))
	}
	if o.Version != "" && !versionPattern.MatchString(o.Version) {
		problems = append(problems, fmt.Errorf("process.version must be a release such as 0.33.0; got %q", o.Version))
	}
	if !slices.Contains([]string{"", InstallMissing, InstallNever}, o.Install) {
		problems = append(problems, fmt.Errorf("process.install must be missing or never; got %q", o.Install))
	}
	if d := o.Directory; d != "" && (!strings.HasPrefix(d, "/") || path.Clean(d) != d || d == "/" || strings.ContainsAny(d, "\x00\r\n")) {
		problems = append(problems, fmt.Errorf("process.directory must be a clean absolute path; got %q", d))
	}
	if err := errors.Join(problems...); err != nil {
		return &deploy.Error{Summary: "could not use the process options", Err: err}
	}
	return nil
}
