package lifecycle

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// maxOwner keeps an owner short enough for a label and a file.
const maxOwner = 512

// ownerPattern is printable ASCII: it is compared, sent in a filter and shown.
var ownerPattern = regexp.MustCompile(`^[\x20-\x7e]+$`)

// Validate says everything that is wrong with the request; nil when nothing is. It needs no machine.
func (r Request) Validate() error {
	var problems []error
	problems = append(problems, r.Spec.Validate())
	if len(r.Owner) > maxOwner || !ownerPattern.MatchString(r.Owner) {
		problems = append(problems, fmt.Errorf("the owner must be 1 to %d printable characters", maxOwner))
	}
	if r.TLS != nil && (r.TLS.Certificate == "" || r.TLS.Key == "") {
		problems = append(problems, errors.New("tls needs both a certificate and its key"))
	}
	for _, code := range r.Ignore {
		if !slices.Contains(Codes(), code) {
			problems = append(problems, fmt.Errorf("preflight.ignore: %q is none of the codes %s", code, strings.Join(Codes(), ", ")))
		}
	}
	switch r.Runtime {
	case deploy.Container:
		problems = append(problems, r.Container.Validate(r.Name))
	case deploy.Process:
		problems = append(problems, r.Process.Validate(r.Name))
	case deploy.Auto, "":
		problems = append(problems, r.Container.Validate(r.Name), r.Process.Validate(r.Name))
	default:
		problems = append(problems, fmt.Errorf("runtime must be container, process or auto; got %q", r.Runtime))
	}
	return errors.Join(problems...)
}

// secrets are all secret values of the request, for masking.
func (r Request) secrets() []string {
	secrets := append(r.Spec.Secrets(), r.Container.RegistryAuth.Secrets()...)
	if r.TLS != nil {
		secrets = append(secrets, r.TLS.Key)
	}
	return secrets
}
