package facts

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// The clouds of the service, under the names that it uses for them.
const (
	VastAI      = "vastai"
	TensorDock  = "tensordock"
	BlueLobster = "bluelobster"
)

// A Cloud is what a file of the folder clouds says: how a cloud's machines are
// played, and what real ones showed.
type Cloud struct {
	Name     string            `json:"-"`
	Recorded string            `json:"recorded"` // the file's date
	About    string            `json:"about"`
	Sources  map[string]string `json:"sources"` // where each fact comes from
	// User logs in: root in a machine that is a container, else a user with sudo.
	User      string `json:"user"`
	Container bool   `json:"container"`
	Docker    bool   `json:"docker"` // a container engine runs on the machine
	// GPUsRented is what a rental gets whatever the offer says; 0 = what it says.
	GPUsRented int    `json:"gpus_rented"`
	Driver     string `json:"driver"`
	// DiskGB is the size of a disk, of which SystemGB are taken. DiskAsAsked is true
	// where a client's own size counts.
	DiskGB      int  `json:"disk_gb"`
	SystemGB    int  `json:"system_gb"`
	DiskAsAsked bool `json:"disk_as_asked"`
	// Create is how long the cloud keeps the service waiting for a machine, and Boot
	// how long that takes from then on until SSH answers. FirstLogin is what the
	// service waits before it tries to log in, Logins how many it wants in a row.
	Create     Seconds `json:"create_seconds"`
	Boot       Seconds `json:"boot_seconds"`
	FirstLogin Seconds `json:"first_login_seconds"`
	Logins     int     `json:"logins"`
	Seen       Seen    `json:"seen"`
	// Templates and Offers are the built-in ones, as package sandbox reads them.
	Templates json.RawMessage `json:"templates"`
	Offers    json.RawMessage `json:"offers"`
}

// Seen is what real machines of a cloud showed. The sandbox's don't follow it yet.
type Seen struct {
	Image           string   `json:"image"` // the default one; "" where the cloud has none
	OS              string   `json:"os"`
	Drivers         []string `json:"drivers"`
	CUDA            []string `json:"cuda"`
	Python          string   `json:"python"`
	CCompiler       string   `json:"c_compiler"`       // "" = none, as in the next two
	CUDACompiler    string   `json:"cuda_compiler"`    // nvcc
	ContainerEngine string   `json:"container_engine"` // Docker
	AfterBoot       string   `json:"after_boot"`
}

// Seconds is a length of time.
type Seconds float64

// Duration returns the time as Go has it.
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

var clouds = sync.OnceValue(func() []Cloud {
	var all []Cloud
	for _, name := range []string{VastAI, TensorDock, BlueLobster} {
		cloud := Cloud{Name: name}
		_ = load("clouds/"+name+".json", &cloud) // TestDataIsRead shows that it can be read
		all = append(all, cloud)
	}
	return all
})

// Clouds are the clouds, in the service's order.
func Clouds() []Cloud { return clouds() }

// FindCloud returns the cloud with a name, if there is one.
func FindCloud(name string) (Cloud, bool) {
	return findFunc(clouds(), func(c Cloud) bool { return c.Name == name })
}

// findFunc returns the first element that match takes.
func findFunc[T any](all []T, match func(T) bool) (found T, ok bool) {
	if i := slices.IndexFunc(all, match); i >= 0 {
		return all[i], true
	}
	return found, false
}

// load reads a data file, strictly.
func load(name string, into any) error {
	data, err := files.ReadFile(name)
	if err != nil {
		return err
	}
	return Decode(data, into)
}

// Decode reads JSON that may have no field that into lacks.
func Decode(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}
