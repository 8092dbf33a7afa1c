// Package container runs vLLM servers as containers, through the Docker Engine API over a
// command's standard input and output on the machine (`docker system dial-stdio`). No container is
// ever described on a command line. It is the only package that uses the Docker client.
package container

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// Options say how a container is run.
type Options struct {
	// Image must have a tag or a digest.
	Image string
	// Name is the container's name; "" = the deployment's.
	Name string
	// GPUs is "all" (or ""), "none", a count, or a list of indices or UUIDs separated by commas.
	GPUs string
	// ShmSize is the shared memory in bytes; 0 = DefaultShmSize.
	ShmSize int64
	// User is USER[:GROUP]; "" = the image's own.
	User string
	// Cache is a prefix of volume names, or an absolute path on the machine, for weights and compiled
	// kernels; "" = DefaultCache.
	Cache string
	// PullPolicy is "missing" (or ""), "always" or "never".
	PullPolicy   string
	RegistryAuth *RegistryAuth
	// InstallEngine lets Docker and NVIDIA's container toolkit be installed where the machine lacks them.
	InstallEngine bool
}

// RegistryAuth are the credentials for the image's registry. They are sent to the engine in a
// header of the pull and are stored nowhere.
type RegistryAuth struct {
	Username, Password string
	// IdentityToken may be given instead of a password.
	IdentityToken string
}

// DefaultShmSize is a limit, not a reservation. vLLM asks for the machine's IPC namespace or enough shared memory
// (https://docs.vllm.ai/en/stable/deployment/docker.html), and names no size.
const DefaultShmSize = 16 << 30

// DefaultCache is the prefix of the cache volumes' names.
const DefaultCache = "shopper-vllm"

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
		return &deploy.Error{Summary: "could not use the container options", Err: err}
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
