package container

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

var (
	// NamePattern is Docker's own pattern for names of containers and volumes.
	NamePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)
	// imagePattern is wider than the grammar of references and keeps a reference from being anything else in a URL's path.
	imagePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._:@/-]*$`)
	idPattern    = regexp.MustCompile(`^[0-9a-f]{12,64}$`)
	userPattern  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)
)

// maxName is shorter than what engines take, so that a suffix fits.
const maxName = 128

// ValidateName says what is wrong with a container's name.
func ValidateName(name string) error {
	if len(name) > maxName || !NamePattern.MatchString(name) {
		return fmt.Errorf("a container's name is 2 to %d letters, digits, '_', '.' and '-', starting with a letter or digit; got %q", maxName, name)
	}
	return nil
}

// Validate says everything that is wrong with the options. Name is the deployment's, used when the options have none.
func (o Options) Validate(name string) error {
	var problems []error
	problems = append(problems, ValidateName(o.name(name)), o.validateImage(), o.validateCache())
	if _, err := parseGPUs(o.GPUs); err != nil {
		problems = append(problems, err)
	}
	if o.User != "" && !userPattern.MatchString(o.User) {
		problems = append(problems, fmt.Errorf("user must be USER or USER:GROUP, names or numbers; got %q", o.User))
	}
	if o.ShmSize < 0 {
		problems = append(problems, fmt.Errorf("shm_size must not be negative; got %d", o.ShmSize))
	}
	switch o.PullPolicy {
	case "", PullMissing, PullAlways, PullNever:
	default:
		problems = append(problems, fmt.Errorf("pull_policy must be missing, always or never; got %q", o.PullPolicy))
	}
	if err := errors.Join(problems...); err != nil {
		return &Error{Op: "use the container options", Code: BadOptions, Err: err}
	}
	return nil
}

func (o Options) name(deployment string) string {
	if o.Name != "" {
		return o.Name
	}
	return deployment
}

func (o Options) validateImage() error {
	last := o.Image[strings.LastIndexByte(o.Image, '/')+1:]
	switch {
	case o.Image == "":
		return errors.New("image is empty; give one such as vllm/vllm-openai:v0.33.0")
	case len(o.Image) > 512 || !imagePattern.MatchString(o.Image) || path.Clean("/"+o.Image) != "/"+o.Image:
		return fmt.Errorf("image %q is not an image's name", o.Image)
	case !strings.ContainsAny(last, ":@"):
		return fmt.Errorf("image %q has neither a tag nor a digest: pin it, such as %s:v0.33.0", o.Image, o.Image)
	}
	return nil
}

func (o Options) validateCache() error {
	switch {
	case o.Cache == "":
		return nil
	case strings.HasPrefix(o.Cache, "/"):
		if path.Clean(o.Cache) != o.Cache || o.Cache == "/" || strings.ContainsAny(o.Cache, ":\x00\n") {
			return fmt.Errorf("cache %q must be a clean absolute path without ':'", o.Cache)
		}
		return nil
	}
	if len(o.Cache) > maxName || !NamePattern.MatchString(o.Cache) {
		return fmt.Errorf("cache %q must be an absolute path on the machine or the beginning of a volume's name", o.Cache)
	}
	return nil
}
