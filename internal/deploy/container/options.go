// Package container runs vLLM servers as containers. It speaks the Docker Engine API over the standard input and output of a command
// on the machine (`docker system dial-stdio`): no command line describes a container. No other package uses the Docker client.
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

// Options say how to run a container.
type Options struct {
	// Image must have a tag or a digest.
	Image string
	// Name is the container's name; "" = the deployment's.
	Name string
	// GPUs is "all" (or ""), "none", a count, or a comma-separated list of indices or UUIDs.
	GPUs string
	// ShmSize is the shared memory in bytes; 0 = 16 GiB.
	ShmSize int64
	// User is USER[:GROUP]; "" = the image's.
	User string
	// Cache is a prefix of volume names, or an absolute path on the machine, for weights and compiled kernels; "" = "shopper-vllm".
	Cache string
	// PullPolicy is "missing" (or ""), "always" or "never".
	PullPolicy   string
	RegistryAuth *RegistryAuth
	// InstallEngine allows installing Docker and NVIDIA's container toolkit if the machine lacks them.
	InstallEngine bool
}

// RegistryAuth are the credentials for the image's registry. They are sent in a header of the pull, and stored nowhere.
type RegistryAuth struct {
	Username, Password string
	// IdentityToken replaces the password.
	IdentityToken string
}

// defaultShmSize is a limit, not a reservation. vLLM asks for the machine's IPC namespace or enough shared memory
// (https://docs.vllm.ai/en/stable/deployment/docker.html), and names no size.
const defaultShmSize = 16 << 30

// defaultCache is the prefix of the cache volumes' names.
const defaultCache = "shopper-vllm"

var (
	// namePattern is Docker's pattern for names of containers and volumes.
	namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)
	// imagePattern allows more than the grammar of references, and nothing that changes a URL's path.
	imagePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._:@/-]*$`)
	idPattern    = regexp.MustCompile(`^[0-9a-f]{12,64}$`)
	userPattern  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)
)

// maxName is below the engines' limit, so that a suffix fits.
const maxName = 128

// ValidateName returns what is wrong with a container's name.
func ValidateName(name string) error {
	if len(name) > maxName || !namePattern.MatchString(name) {
		return fmt.Errorf("a container's name is 2 to %d letters, digits, '_', '.' and '-', starting with a letter or digit; got %q", maxName, name)
	}
	return nil
}

// Validate returns all that is wrong with the options. name is the deployment's, for options without a name.
func (o Options) Validate(name string) error {
	_, err := parseGPUs(o.GPUs)
	problems := []error{ValidateName(cmp.Or(o.Name, name)), o.validateImage(), o.validateCache(), err}
	if o.User != "" && !userPattern.MatchString(o.User) {
		problems = append(problems, fmt.Errorf("user must be USER or USER:GROUP, names or numbers; got %q", o.User))
	}
	if o.ShmSize < 0 {
		problems = append(problems, fmt.Errorf("shm_size must not be negative; got %d", o.ShmSize))
	}
	if !slices.Contains([]string{"", PullMissing, PullAlways, PullNever}, o.PullPolicy) {
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
	isPath := strings.HasPrefix(o.Cache, "/")
	switch {
	case isPath && (path.Clean(o.Cache) != o.Cache || o.Cache == "/" || strings.ContainsAny(o.Cache, ":\x00\n")):
		return fmt.Errorf("cache %q must be a clean absolute path without ':'", o.Cache)
	case o.Cache != "" && !isPath && (len(o.Cache) > maxName || !namePattern.MatchString(o.Cache)):
		return fmt.Errorf("cache %q must be an absolute path on the machine or the beginning of a volume's name", o.Cache)
	}
	return nil
}

// GPUSupport is how an engine gives GPUs to containers.
type GPUSupport string

// The kinds of support.
const (
	// ByCapability is a device request for the capability "gpu", which NVIDIA's runtime serves.
	ByCapability GPUSupport = "capability"
	// ByCDI is a request for devices of the Container Device Interface.
	ByCDI GPUSupport = "cdi"
	// NoGPUs means neither.
	NoGPUs GPUSupport = "none"
	// Untold means that the engine doesn't say; a request by capability is tried.
	Untold GPUSupport = "untold"
)

// cdiVendor is the kind of NVIDIA's CDI devices.
const cdiVendor = "nvidia.com/gpu"

// gpuSupport reads what Docker reports: its runtimes and, since release 28, the CDI devices that it has found.
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

// cdiByHand reports whether CDI was turned on in an engine before release 28, which names CDI's directories only then.
func cdiByHand(info system.Info) bool {
	major, _, _ := strings.Cut(info.ServerVersion, ".")
	release, err := strconv.Atoi(major)
	return err == nil && release < 28 && len(info.CDISpecDirs) > 0
}

// gpuID is an index or a UUID as nvidia-smi prints them, MIG devices included.
var gpuID = regexp.MustCompile(`^(?:[0-9]{1,3}|(?:GPU|MIG)-[0-9A-Za-z/-]{1,80}|[0-9]{1,3}:[0-9]{1,3})$`)

// gpuChoice is the option GPUs: a count, or the GPUs' indices or UUIDs, or neither for none.
type gpuChoice struct {
	count int // allGPUs, as the engine's API has it, for all
	ids   []string
}

const allGPUs = -1

func parseGPUs(text string) (gpuChoice, error) {
	switch text {
	case "", "all":
		return gpuChoice{count: allGPUs}, nil
	case "none":
		return gpuChoice{}, nil
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

// Given returns those of the machine's GPUs that the container gets.
func (o Options) Given(gpus []deploy.GPU) []deploy.GPU {
	choice, _ := parseGPUs(o.GPUs) // validated before; an invalid choice is none
	switch {
	case choice.count == allGPUs:
		return gpus
	case choice.count > 0:
		return gpus[:min(choice.count, len(gpus))]
	}
	return slices.DeleteFunc(slices.Clone(gpus), func(gpu deploy.GPU) bool {
		return !slices.Contains(choice.ids, strconv.Itoa(gpu.Index)) && !slices.Contains(choice.ids, gpu.UUID)
	})
}

// deviceRequests requests the chosen GPUs in the way that the engine supports.
func deviceRequests(choice gpuChoice, support GPUSupport) []container.DeviceRequest {
	if choice.count == 0 && len(choice.ids) == 0 {
		return nil
	}
	if support != ByCDI {
		return []container.DeviceRequest{{Capabilities: [][]string{{"gpu"}}, Count: choice.count, DeviceIDs: choice.ids}}
	}
	names := slices.Clone(choice.ids)
	if choice.count == allGPUs {
		names = []string{"all"}
	}
	for i := range max(choice.count, 0) {
		names = append(names, strconv.Itoa(i))
	}
	for i := range names {
		names[i] = cdiVendor + "=" + names[i]
	}
	return []container.DeviceRequest{{Driver: "cdi", DeviceIDs: names}}
}
