package sandbox

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// The clouds of the service, by its names for them.
const (
	VastAI      = facts.VastAI
	TensorDock  = facts.TensorDock
	BlueLobster = facts.BlueLobster
)

// Offer is one offer of the market. Its fields are what the service reports, except for
// Machine: what a rental really is, which the service doesn't know.
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
	// MaxDurationHours is how long it can be rented at most; 0 = no limit.
	MaxDurationHours int `json:"max_duration_hours,omitempty"`

	Machine MachineSpec `json:"machine,omitzero"`
}

// MachineSpec is the machine behind an offer. Zero fields follow from the offer's cloud
// and GPU type.
type MachineSpec struct {
	GPUCount          int    `json:"gpu_count,omitempty"` // 0 = as offered; always 1 at TensorDock
	MemoryMiB         int    `json:"memory_mib,omitempty"`
	ComputeCapability string `json:"compute_capability,omitempty"`
	// Docker gives the machine a container engine where the cloud's machines have none;
	// NoDocker takes it away where they have one.
	Docker        bool             `json:"docker,omitempty"`
	NoDocker      bool             `json:"no_docker,omitempty"`
	NoGPURuntime  bool             `json:"no_gpu_runtime,omitempty"` // Docker without NVIDIA's toolkit
	Driver        machinefs.Driver `json:"driver,omitempty"`         // "" = ready
	DriverVersion string           `json:"driver_version,omitempty"`
	// DriverBuild is how long the driver is being built after boot; 0 = as usual at the cloud.
	DriverBuild Duration       `json:"driver_build,omitempty"`
	Boot        Duration       `json:"boot,omitempty"` // from rental to SSH; 0 = the cloud's usual
	DiskGB      int            `json:"disk_gb,omitempty"`
	VLLM        machinefs.VLLM `json:"vllm,omitzero"`

	kind facts.Machine // the cloud's
}

// Duration is a time.Duration whose JSON is "90s", or a number of seconds.
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

// completeOffers fills in defaults, and returns an error for an offer that can't be rented.
func completeOffers(offers []Offer, variant Machines) ([]Offer, error) {
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
		var err error
		o, err = o.withDefaults(variant)
		switch {
		case err != nil:
			return nil, fmt.Errorf("offer %s: %w", o.ID, err)
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

func (o Offer) withDefaults(variant Machines) (Offer, error) {
	provider, rest, _ := strings.Cut(o.ID, "-")
	o.Provider = cmp.Or(o.Provider, provider)
	o.ProviderID = cmp.Or(o.ProviderID, rest)
	o.GPUCount = cmp.Or(o.GPUCount, 1)
	o.Confidence = cmp.Or(o.Confidence, 1)
	cloud, known := facts.FindCloud(o.Provider)
	if !known {
		return o, fmt.Errorf("provider %q is none of %s, %s, %s", o.Provider, VastAI, TensorDock, BlueLobster)
	}
	kind := cloud.Machine
	if variant == Friendly {
		kind = cloud.Friendly()
	} else if driver := facts.DriverFor(o.CUDAVersion); driver != "" {
		kind.Driver = driver // the host's
	}
	o.Machine = o.Machine.withDefaults(o, cloud, kind)
	o.VRAMGB = cmp.Or(o.VRAMGB, o.Machine.MemoryMiB/1024)
	return o, nil
}

// BuiltinOffers is the default market: about forty offers that differ as those of the
// real clouds do. They are part of the clouds' files in package facts.
func BuiltinOffers() []Offer {
	var offers []Offer
	for _, cloud := range facts.Clouds() {
		var own []Offer
		_ = facts.Decode(cloud.Offers, &own) // TestTheBuiltinMarket shows that they can be read
		offers = append(offers, own...)
	}
	return offers
}

// gpu describes the offer's GPUs, by guessing if their type is unknown.
func (o Offer) gpu() facts.GPU {
	if gpu, known := facts.FindGPU(o.GPUType); known {
		return gpu
	}
	return facts.GPU{Name: "NVIDIA " + o.GPUType, MemoryMiB: max(o.VRAMGB, 1) * 1024, ComputeCapability: "8.0"}
}

func (m MachineSpec) withDefaults(o Offer, cloud facts.Cloud, kind facts.Machine) MachineSpec {
	gpu := o.gpu()
	m.GPUCount = cmp.Or(cloud.GPUsRented, m.GPUCount, o.GPUCount)
	m.MemoryMiB = cmp.Or(m.MemoryMiB, gpu.MemoryMiB)
	m.ComputeCapability = cmp.Or(m.ComputeCapability, gpu.ComputeCapability)
	m.Driver = cmp.Or(m.Driver, machinefs.DriverReady)
	m.kind = kind
	m.DriverVersion = cmp.Or(m.DriverVersion, kind.Driver)
	m.DriverBuild = cmp.Or(m.DriverBuild, Duration(kind.DriverBuild.Duration()))
	m.Boot = cmp.Or(m.Boot, Duration(cloud.Boot.Duration()))
	m.DiskGB = cmp.Or(m.DiskGB, cloud.DiskGB)
	m.Docker = (m.Docker || kind.Docker) && !m.NoDocker
	return m
}

// publicAddress is the address of all machines: the computer's loopback.
const publicAddress = "127.0.0.1"

// facts are those of a machine that is rented by this offer. Not every cloud heeds the
// requested size of the disk.
func (o Offer) facts(speed float64, req createRequest) machinefs.Facts {
	m, gpu, diskGB := o.Machine, o.gpu(), req.diskGB
	cloud, _ := facts.FindCloud(o.Provider) // completeOffers lets no other pass
	if !cloud.DiskAsAsked || diskGB <= 0 {
		diskGB = m.DiskGB
	}
	f := machinefs.Facts{
		Container: cloud.Container, User: cloud.User,
		Docker: m.Docker, NoGPURuntime: m.NoGPURuntime, Python: m.kind.Python, Packages: m.kind.Packages,
		Driver: m.Driver, DriverMismatch: m.kind.Mismatch, DriverVersion: m.DriverVersion, CUDAVersion: facts.CUDA(m.DriverVersion),
		DiskGB: diskGB, DiskFreeGB: max(diskGB-cloud.SystemGB, 0), Speed: speed, VLLM: m.VLLM,
	}
	req.template.furnish(&f)
	if !f.Container { // a VM has its own address; a container's cloud forwards only SSH
		f.PublicAddress = publicAddress
	}
	for i := range m.GPUCount {
		f.GPUs = append(f.GPUs, machinefs.GPU{
			Name: gpu.Name, UUID: gpuUUID(o.ID, i), MemoryMiB: m.MemoryMiB, ComputeCapability: m.ComputeCapability,
		})
	}
	return f
}
