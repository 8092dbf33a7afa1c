// Package process runs vLLM servers as processes, on machines without a container engine. A fixed
// launcher script is fed over standard input; arguments are quoted words, and secrets come on
// standard input, so that they are neither in a process list nor on a disk.
package process

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// Options say how vLLM is found or installed.
type Options struct {
	// Version is the vLLM release wanted, such as "0.33.0"; "" = whatever the machine has, else the newest that is known.
	Version string
	// Install is "missing" (or ""): install with uv where the version isn't there; "never".
	Install string
	// Directory is an absolute path on the machine; "" = DefaultDirectory under the user's home.
	Directory string
}

// DefaultDirectory is where vLLM and its servers' records are kept, under the user's home.
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

// Validate says everything that is wrong with the options, and with the deployment's name, which
// becomes part of a directory's.
func (o Options) Validate(name string) error {
	var problems []error
	if !namePattern.MatchString(name) {
		problems = append(problems, fmt.Errorf("a name is 2 to 128 letters, digits, '_', '.' and '-', starting with a letter or digit; got %q", name))
	}
	if o.Version != "" && !versionPattern.MatchString(o.Version) {
		problems = append(problems, fmt.Errorf("process.version must be a release such as 0.33.0; got %q", o.Version))
	}
	switch o.Install {
	case "", InstallMissing, InstallNever:
	default:
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
