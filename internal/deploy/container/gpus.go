package container

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

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
