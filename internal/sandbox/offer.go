package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// The clouds of the service, under the names that it uses for them.
const (
	VastAI      = "vastai"
	TensorDock  = "tensordock"
	BlueLobster = "bluelobster"
)

// Offer is one line of the market. The fields with the service's own names are
// what the service tells about it; Machine is what a rental really is, which the
// service doesn't know.
type Offer struct {
	ID       string `json:"id"`       // starts with the cloud's name
	Provider string `json:"provider"` // "" = the part of ID before the first dash
	// ProviderID is the cloud's own id of the offer; "" = the rest of ID.
	ProviderID string `json:"provider_id"`
	GPUType    string `json:"gpu_type"`
	GPUCount   int    `json:"gpu_count"` // 0 = 1
	// VRAMGB is per GPU and truncated, as the service truncates it.
	VRAMGB       int     `json:"vram_gb"`
	PricePerHour float64 `json:"price_per_hour"` // USD
	Location     string  `json:"location"`
	Reliability  float64 `json:"reliability"` // 0 = the cloud reports none
	// Confidence is the cloud's availability_confidence; 0 = 1.
	Confidence    float64 `json:"availability_confidence"`
	CUDAVersion   float64 `json:"cuda_version,omitempty"` // 0 = the cloud reports none
	MachineID     string  `json:"machine_id,omitempty"`
	Interruptible bool    `json:"interruptible,omitempty"`
	MinBid        float64 `json:"min_bid,omitempty"`
	// MaxDurationHours is how long it can be rented at most, as the listing says; 0 = no limit.
	MaxDurationHours int `json:"max_duration_hours,omitempty"`

	Machine MachineSpec `json:"machine,omitzero"`
}

// MachineSpec is what somebody gets who rents an offer. Zero fields follow from
// the offer's cloud and GPU type.
type MachineSpec struct {
	GPUCount          int    `json:"gpu_count,omitempty"` // 0 = as offered; always 1 at TensorDock
	MemoryMiB         int    `json:"memory_mib,omitempty"`
	ComputeCapability string `json:"compute_capability,omitempty"`
	// NoDocker is a VM without a container engine. Vast.ai's machines never have one.
	NoDocker      bool             `json:"no_docker,omitempty"`
	NoGPURuntime  bool             `json:"no_gpu_runtime,omitempty"` // Docker without NVIDIA's toolkit
	Driver        machinefs.Driver `json:"driver,omitempty"`         // "" = ready
	DriverVersion string           `json:"driver_version,omitempty"`
	// DriverBuild is how long after boot the driver is still being built.
	DriverBuild Duration       `json:"driver_build,omitempty"`
	Boot        Duration       `json:"boot,omitempty"` // from rental to SSH; 0 = the cloud's usual
	DiskGB      int            `json:"disk_gb,omitempty"`
	VLLM        machinefs.VLLM `json:"vllm,omitzero"`
}

// Duration is a time.Duration that reads as "90s" or as a number of seconds, and
// is written as the former.
type Duration time.Duration

// MarshalJSON writes the duration as Go prints it.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).String())
}

// UnmarshalJSON reads "1m30s" or a number of seconds.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	parsed, err := asDuration(v)
	*d = Duration(parsed)
	return err
}

var errNotDuration = errors.New(`want a duration such as "90s", or a number of seconds`)

// asDuration reads a duration from Go or decoded JSON.
func asDuration(v any) (time.Duration, error) {
	switch v := v.(type) {
	case time.Duration:
		return v, nil
	case Duration:
		return time.Duration(v), nil
	case string:
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return 0, fmt.Errorf("%q: %w", v, errNotDuration)
		}
		return d, nil
	case int:
		return time.Duration(v) * time.Second, nil
	case float64:
		if v < 0 || v > 1e9 {
			return 0, fmt.Errorf("%v: %w", v, errNotDuration)
		}
		return time.Duration(v * float64(time.Second)), nil
	default:
		return 0, fmt.Errorf("%v: %w", v, errNotDuration)
	}
}

// LoadOffers reads a market from a JSON file: a list of offers, or an object
// with such a list under "offers", as GET /api/v1/inventory answers.
func LoadOffers(path string) ([]Offer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the offers: %w", err)
	}
	var offers []Offer
	if trimmed := strings.TrimSpace(string(data)); strings.HasPrefix(trimmed, "{") {
		var file struct {
			Offers []Offer `json:"offers"`
		}
		err = json.Unmarshal(data, &file)
		offers = file.Offers
	} else {
		err = json.Unmarshal(data, &offers)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the offers of %s: %w", path, err)
	}
	return offers, nil
}

var validOfferID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// completeOffers fills in what follows from the rest, and refuses what can't be rented.
func completeOffers(offers []Offer) ([]Offer, error) {
	complete := make([]Offer, 0, len(offers))
	seen := make(map[string]bool, len(offers))
	for i, o := range offers {
		if !validOfferID.MatchString(o.ID) {
			return nil, fmt.Errorf("offer %d: id %q isn't one that the service could use", i, o.ID)
		}
		if seen[o.ID] {
			return nil, fmt.Errorf("offer %s is there twice", o.ID)
		}
		seen[o.ID] = true
		o = o.withDefaults()
		switch {
		case o.Provider != VastAI && o.Provider != TensorDock && o.Provider != BlueLobster:
			return nil, fmt.Errorf("offer %s: provider %q is none of %s, %s, %s", o.ID, o.Provider, VastAI, TensorDock, BlueLobster)
		case o.GPUType == "":
			return nil, fmt.Errorf("offer %s: gpu_type is missing", o.ID)
		case o.PricePerHour <= 0 || math.IsInf(o.PricePerHour, 0):
			return nil, fmt.Errorf("offer %s: price_per_hour must be above 0", o.ID)
		case o.GPUCount < 1 || o.GPUCount > 64:
			return nil, fmt.Errorf("offer %s: gpu_count must be between 1 and 64", o.ID)
		}
		complete = append(complete, o)
	}
	return complete, nil
}

func (o Offer) withDefaults() Offer {
	cloud, rest, _ := strings.Cut(o.ID, "-")
	if o.Provider == "" {
		o.Provider = cloud
	}
	if o.ProviderID == "" {
		o.ProviderID = rest
	}
	if o.GPUCount == 0 {
		o.GPUCount = 1
	}
	if o.Confidence == 0 {
		o.Confidence = 1
	}
	o.Machine = o.Machine.withDefaults(o)
	if o.VRAMGB == 0 {
		o.VRAMGB = o.Machine.MemoryMiB / 1024
	}
	return o
}

// gpuModel is what nvidia-smi says of a GPU type.
type gpuModel struct {
	name       string
	memoryMiB  int
	capability string
}

// gpuModels are the GPU types of the built-in market, with the memory that the
// driver reports and the compute capability from NVIDIA's list.
var gpuModels = map[string]gpuModel{
	"RTX 3090":         {"NVIDIA GeForce RTX 3090", 24576, "8.6"},
	"RTX 4090":         {"NVIDIA GeForce RTX 4090", 24564, "8.9"},
	"RTX 5090":         {"NVIDIA GeForce RTX 5090", 32607, "12.0"},
	"RTX A4000":        {"NVIDIA RTX A4000", 16376, "8.6"},
	"RTX A6000":        {"NVIDIA RTX A6000", 49140, "8.6"},
	"RTX 6000 Ada":     {"NVIDIA RTX 6000 Ada Generation", 49140, "8.9"},
	"RTX PRO 6000":     {"NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "12.0"},
	"L4":               {"NVIDIA L4", 23034, "8.9"},
	"L40S":             {"NVIDIA L40S", 46068, "8.9"},
	"A100 PCIE":        {"NVIDIA A100 80GB PCIe", 81920, "8.0"},
	"A100 SXM4":        {"NVIDIA A100-SXM4-80GB", 81920, "8.0"},
	"H100 PCIE":        {"NVIDIA H100 PCIe", 81559, "9.0"},
	"H100 SXM5":        {"NVIDIA H100 80GB HBM3", 81559, "9.0"},
	"H200":             {"NVIDIA H200", 143771, "9.0"},
	"B200":             {"NVIDIA B200", 183359, "10.0"},
	"Tesla V100":       {"Tesla V100-SXM2-32GB", 32768, "7.0"},
	"Tesla T4":         {"Tesla T4", 15360, "7.5"},
	"Quadro RTX A5000": {"NVIDIA RTX A5000", 24564, "8.6"},
}

func (m MachineSpec) withDefaults(o Offer) MachineSpec {
	model, known := gpuModels[o.GPUType]
	if !known {
		model = gpuModel{name: "NVIDIA " + o.GPUType, memoryMiB: max(o.VRAMGB, 1) * 1024, capability: "8.0"}
	}
	if m.GPUCount == 0 {
		m.GPUCount = o.GPUCount
	}
	if o.Provider == TensorDock {
		m.GPUCount = 1
	}
	if m.MemoryMiB == 0 {
		m.MemoryMiB = model.memoryMiB
	}
	if m.ComputeCapability == "" {
		m.ComputeCapability = model.capability
	}
	if m.Driver == "" {
		m.Driver = machinefs.DriverReady
	}
	if m.DriverVersion == "" {
		m.DriverVersion = "580.95.05"
	}
	if m.Boot == 0 {
		m.Boot = Duration(usualBoot(o.Provider))
	}
	if m.DiskGB == 0 {
		m.DiskGB = usualDisk(o.Provider)
	}
	if o.Provider == VastAI {
		m.NoDocker = true
	}
	return m
}

func usualBoot(cloud string) time.Duration {
	switch cloud {
	case TensorDock:
		return 60 * time.Second
	case BlueLobster:
		return 45 * time.Second
	default:
		return 10 * time.Second
	}
}

func usualDisk(cloud string) int {
	if cloud == VastAI {
		return 50 // what the service asks for where the client named none
	}
	return 200
}

// publicAddress is where all machines are: the sandbox's own loopback.
const publicAddress = "127.0.0.1"

// facts are the machine that a rental of the offer becomes.
func (o Offer) facts(speed float64) machinefs.Facts {
	m := o.Machine
	user := map[string]string{VastAI: "root", TensorDock: "user", BlueLobster: "ubuntu"}[o.Provider]
	name := "NVIDIA " + o.GPUType
	if model, ok := gpuModels[o.GPUType]; ok {
		name = model.name
	}
	f := machinefs.Facts{
		Container: o.Provider == VastAI, User: user,
		Docker: !m.NoDocker, NoGPURuntime: m.NoGPURuntime,
		Driver: m.Driver, DriverVersion: m.DriverVersion, CUDAVersion: cudaOf(m.DriverVersion),
		DiskGB: m.DiskGB, DiskFreeGB: max(m.DiskGB-10, 0), Speed: speed, VLLM: m.VLLM,
	}
	if !f.Container { // Vast.ai forwards SSH alone; the others' machines have an address of their own
		f.PublicAddress = publicAddress
	}
	for i := range m.GPUCount {
		f.GPUs = append(f.GPUs, machinefs.GPU{
			Name: name, UUID: gpuUUID(o.ID, i), MemoryMiB: m.MemoryMiB, ComputeCapability: m.ComputeCapability,
		})
	}
	return f
}

// cudaOf is the CUDA version that nvidia-smi shows for a driver.
func cudaOf(driver string) string {
	major, _, _ := strings.Cut(driver, ".")
	switch major {
	case "535":
		return "12.2"
	case "550":
		return "12.4"
	case "570":
		return "12.8"
	case "575":
		return "12.9"
	default:
		return "13.0"
	}
}
