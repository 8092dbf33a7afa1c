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

// A Cloud is what a file of the folder clouds says.
type Cloud struct {
	Name     string            `json:"-"`
	Recorded string            `json:"recorded"` // the file's date
	About    string            `json:"about"`
	Sources  map[string]string `json:"sources"` // where each fact comes from
	// User logs in: root in a machine that is a container, else a user with sudo.
	User      string `json:"user"`
	Container bool   `json:"container"`
	// GPUsRented is what a rental gets whatever the offer says; 0 = what it says.
	GPUsRented int `json:"gpus_rented"`
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
	// Machine is what real machines of the cloud showed.
	Machine Machine `json:"machine"`
	// Templates and Offers are the built-in ones, as package sandbox reads them.
	Templates json.RawMessage `json:"templates"`
	Offers    json.RawMessage `json:"offers"`
}

// A Machine is what the machines of a cloud bring.
type Machine struct {
	OS string `json:"os"` // and what else there is to say of its image
	// Python is the version of the distribution's, and Packages are the packages that
	// count here; see package machinefs.
	Python   string   `json:"python"`
	Packages []string `json:"packages"`
	Docker   bool     `json:"docker"`
	// Driver is the NVIDIA driver where the listing tells no version of CUDA.
	Driver string `json:"driver"`
	// DriverBuild is how long after boot the driver's module is still being built, with
	// dpkg's lock held, unless an offer says it; 0 = not at all. Mismatch: until then
	// nvidia-smi finds another version of the library.
	DriverBuild Seconds `json:"driver_build_seconds"`
	Mismatch    bool    `json:"driver_mismatch"`
	// Idle is after how long a proxy cuts a connection that nothing goes through; 0 =
	// there is none.
	Idle Seconds `json:"idle_seconds"`
}

// Friendly is the variant of the cloud's machines on which nothing is missing: VMs
// have Docker, and all have a current driver and all that an installation takes.
func (c Cloud) Friendly() Machine {
	return Machine{OS: c.Machine.OS, Docker: !c.Container, Driver: CurrentDriver}
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
