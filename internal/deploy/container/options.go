// Package container runs vLLM servers as containers, through the Docker Engine API over a
// command's standard input and output on the machine (`docker system dial-stdio`). No container is
// ever described on a command line. It is the only package that uses the Docker client.
package container

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"

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
	problems = append(problems, ValidateName(cmp.Or(o.Name, name)), o.validateImage(), o.validateCache())
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

func (o Options) validateImage() error {
	last := o.Image[strings.LastIndexByte(o.Image, '/')+1:]
	switch {
	case o.Image == "":
		return errors.New("image is empty; set one such as vllm/vllm-openai:v0.33.0")
	case len(o.Image) > 512 || !imagePattern.MatchString(o.Image) || path.Clean("/"+o.Image) != "/"+o.Image:
		return fmt.Errorf("image %q is not an image name", o.Image)
	case !strings.ContainsAny(last, ":@"):
		return fmt.Errorf("image %q has neither a tag nor a digest: pin one, such as %s:v0.33.0", o.Image, o.Image)
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

// GPUSupport says how an engine gives GPUs to containers.
type GPUSupport string

// The ways.
const (
	// ByCapability is a device request for the capability "gpu", which NVIDIA's runtime answers.
	ByCapability GPUSupport = "capability"
	// ByCDI is a request for devices of the Container Device Interface.
	ByCDI GPUSupport = "cdi"
	// NoGPUs: the engine has neither.
	NoGPUs GPUSupport = "none"
	// Untold: the engine doesn't say. A request by capability is tried.
	Untold GPUSupport = "untold"
)

// cdiVendor is the kind of NVIDIA's CDI devices.
const cdiVendor = "nvidia.com/gpu"

// gpuSupport judges by what Docker says of itself: it lists its runtimes, and since 28 the CDI devices it has found.
func gpuSupport(info system.Info) GPUSupport {
	_, nvidia := info.Runtimes["nvidia"]
	found := slices.ContainsFunc(info.DiscoveredDevices, func(device system.DeviceInfo) bool {
		return device.Source == "cdi" && strings.HasPrefix(device.ID, cdiVendor+"=")
	})
	switch {
	case nvidia:
		return ByCapability
	case found, cdiByHand(info):
		return ByCDI
	case len(info.Runtimes) > 0:
		return NoGPUs
	}
	return Untold
}

// cdiByHand tells whether somebody has turned CDI on: before release 28, which has it always and lists the devices, an
// engine names directories only then.
func cdiByHand(info system.Info) bool {
	major, _, _ := strings.Cut(info.ServerVersion, ".")
	release, err := strconv.Atoi(major)
	return err == nil && release < 28 && len(info.CDISpecDirs) > 0
}

// gpuID is an index or a UUID as nvidia-smi prints them, MIG devices included.
var gpuID = regexp.MustCompile(`^(?:[0-9]{1,3}|(?:GPU|MIG)-[0-9A-Za-z/-]{1,80}|[0-9]{1,3}:[0-9]{1,3})$`)

// gpuChoice is the option GPUs, read.
type gpuChoice struct {
	none, all bool
	count     int
	ids       []string
}

func parseGPUs(text string) (gpuChoice, error) {
	switch text {
	case "", "all":
		return gpuChoice{all: true}, nil
	case "none":
		return gpuChoice{none: true}, nil
	}
	if count, err := strconv.Atoi(text); err == nil {
		if count < 1 || count > 64 {
			return gpuChoice{}, fmt.Errorf("gpus must be a count from 1 to 64, \"all\", \"none\", or a list of GPUs; got %q", text)
		}
		return gpuChoice{count: count}, nil
	}
	// "device=0,1" is how the docker CLI writes a list; a list of one needs a way to be no count.
	ids := strings.Split(strings.TrimPrefix(text, "device="), ",")
	for i, id := range ids {
		ids[i] = strings.TrimSpace(id)
		if !gpuID.MatchString(ids[i]) {
			return gpuChoice{}, fmt.Errorf("gpus: %q is neither a GPU's index nor its UUID", id)
		}
	}
	return gpuChoice{ids: ids}, nil
}

// Given are those of the machine's GPUs that a container with the options is given.
func (o Options) Given(gpus []deploy.GPU) []deploy.GPU {
	choice, _ := parseGPUs(o.GPUs) // validated before; of a wrong one no GPU is chosen
	switch {
	case choice.all:
		return gpus
	case choice.count > 0:
		return gpus[:min(choice.count, len(gpus))]
	}
	return slices.DeleteFunc(slices.Clone(gpus), func(gpu deploy.GPU) bool {
		return !slices.Contains(choice.ids, strconv.Itoa(gpu.Index)) && !slices.Contains(choice.ids, gpu.UUID)
	})
}

// deviceRequests asks the engine for the chosen GPUs in the way it understands.
func deviceRequests(choice gpuChoice, support GPUSupport) []container.DeviceRequest {
	if choice.none {
		return nil
	}
	if support == ByCDI {
		return []container.DeviceRequest{{Driver: "cdi", DeviceIDs: cdiNames(choice)}}
	}
	request := container.DeviceRequest{Capabilities: [][]string{{"gpu"}}}
	switch {
	case choice.all:
		request.Count = -1
	case len(choice.ids) > 0:
		request.DeviceIDs = choice.ids
	default:
		request.Count = choice.count
	}
	return []container.DeviceRequest{request}
}

func cdiNames(choice gpuChoice) []string {
	if choice.all {
		return []string{cdiVendor + "=all"}
	}
	names := make([]string, 0, max(choice.count, len(choice.ids)))
	for _, id := range choice.ids {
		names = append(names, cdiVendor+"="+id)
	}
	for i := range choice.count {
		names = append(names, cdiVendor+"="+strconv.Itoa(i))
	}
	return names
}
