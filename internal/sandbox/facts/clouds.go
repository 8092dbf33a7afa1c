package facts

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// The clouds of the service, by its names for them.
const (
	VastAI      = "vastai"
	TensorDock  = "tensordock"
	BlueLobster = "bluelobster"
)

// A Cloud is a file of the folder clouds.
type Cloud struct {
	Name     string            `json:"-"`
	Recorded string            `json:"recorded"` // the file's date
	About    string            `json:"about"`
	Sources  map[string]string `json:"sources"` // where each fact comes from
	// User is the login user: root if the machines are containers, else a user with sudo.
	User      string `json:"user"`
	Container bool   `json:"container"`
	// GPUsRented is the number of GPUs of every rental; 0 = as offered.
	GPUsRented int `json:"gpus_rented"`
	// DiskGB is the size of a disk, of which SystemGB are used from the start. DiskAsAsked
	// is true if a client can choose the size.
	DiskGB      int  `json:"disk_gb"`
	SystemGB    int  `json:"system_gb"`
	DiskAsAsked bool `json:"disk_as_asked"`
	// Create is how long the cloud takes to answer an order, and Boot how long it takes
	// from then on until SSH answers. FirstLogin is how long the service waits before it
	// tries to log in, and Logins is how many logins in a row it requires.
	Create     Seconds `json:"create_seconds"`
	Boot       Seconds `json:"boot_seconds"`
	FirstLogin Seconds `json:"first_login_seconds"`
	Logins     int     `json:"logins"`
	// Machine is what was observed on the cloud's machines.
	Machine Machine `json:"machine"`
	// Templates and Offers are the built-in ones, as package sandbox reads them.
	Templates json.RawMessage `json:"templates"`
	Offers    json.RawMessage `json:"offers"`
}

// A Machine describes the machines of a cloud.
type Machine struct {
	OS string `json:"os"` // and what else there is to say of its image
	// Python is the version of the distribution's python3. For Packages, see machinefs.Facts.
	Python   string   `json:"python"`
	Packages []string `json:"packages"`
	Docker   bool     `json:"docker"`
	// Driver is the NVIDIA driver of offers that state no version of CUDA.
	Driver string `json:"driver"`
	// DriverBuild is how long after boot the driver's module is being built, and dpkg
	// locked; 0 = not at all. An offer may state another. With Mismatch, nvidia-smi finds
	// another version of the library until then.
	DriverBuild Seconds `json:"driver_build_seconds"`
	Mismatch    bool    `json:"driver_mismatch"`
	// Idle is how long a connection may be idle before a proxy cuts it; 0 = forever.
	Idle Seconds `json:"idle_seconds"`
}

// Friendly is the variant of the cloud's machines on which nothing is missing.
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

// Clouds returns the clouds in the service's order.
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

// load reads a data file, as Decode does.
func load(name string, into any) error {
	data, err := files.ReadFile(name)
	if err != nil {
		return err
	}
	return Decode(data, into)
}

// Decode reads JSON, which may have no fields that into lacks.
func Decode(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}
