package facts

import (
	"path"
	"strconv"
	"strings"
	"sync"
)

// A GPU describes a type of GPU as nvidia-smi and the driver do.
type GPU struct {
	Type              string `json:"type"` // the service's name for it
	Name              string `json:"name"`
	MemoryMiB         int    `json:"memory_mib"`
	ComputeCapability string `json:"compute_capability"`
}

// hardware is nvidia.json.
type hardware struct {
	Recorded string            `json:"recorded"`
	Sources  map[string]string `json:"sources"`
	CUDA     map[string]string `json:"cuda"`    // by the driver's branch
	Drivers  []string          `json:"drivers"` // oldest first
	GPUs     []GPU             `json:"gpus"`
}

var nvidia = sync.OnceValue(func() (all hardware) {
	_ = load("nvidia.json", &all) // TestDataIsRead shows that it can be read
	return all
})

// FindGPU returns what is known of a type of GPU.
func FindGPU(kind string) (GPU, bool) {
	return findFunc(nvidia().GPUs, func(g GPU) bool { return g.Type == kind })
}

// CurrentDriver is a driver on which every release of vLLM runs.
const CurrentDriver = "580.95.05"

// CUDA is the version of CUDA that nvidia-smi shows for a driver.
func CUDA(driver string) string {
	branch, _, _ := strings.Cut(driver, ".")
	if version, known := nvidia().CUDA[branch]; known {
		return version
	}
	return CUDA(CurrentDriver)
}

// DriverFor is a driver that shows this version of CUDA, such as 12.9; "" if none is known.
func DriverFor(cuda float64) string {
	shown := strconv.FormatFloat(cuda, 'f', 1, 64)
	driver, _ := findFunc(nvidia().Drivers, func(driver string) bool { return CUDA(driver) == shown })
	return driver
}

// A Model is the part of a checkpoint's config.json that decides whether the model starts.
type Model struct {
	Prefix       string  `json:"prefix"`       // beginning of the repository's name, lower case
	Architecture string  `json:"architecture"` // the class named in config.json
	Billions     float64 `json:"billions"`     // of parameters
	Layers       int     `json:"layers"`       // with full attention
	Heads        int     `json:"heads"`
	KVHeads      int     `json:"kv_heads"`
	HeadDim      int     `json:"head_dim"`
	Context      int     `json:"context"`      // max_position_embeddings
	KVKiB        float64 `json:"kv_kib"`       // for a token, where heads do not say it
	Since        string  `json:"since"`        // first release of vLLM that knows the architecture
	Quantization string  `json:"quantization"` // quant_method; "" for weights in bf16
	RemoteCode   bool    `json:"remote_code"`  // the repository brings its own code
	Source       string  `json:"source"`       // the repository
}

// A Quantization is a method's bytes per parameter, and ten times the lowest compute
// capability that it runs on.
type Quantization struct {
	Bytes      float64 `json:"bytes"`
	Capability int     `json:"capability"`
}

// checkpoints is models.json.
type checkpoints struct {
	Recorded      string                  `json:"recorded"`
	Sources       map[string]string       `json:"sources"`
	Models        []Model                 `json:"models"`
	Quantizations map[string]Quantization `json:"quantizations"`
	Names         []struct {
		Part   string `json:"part"`
		Method string `json:"method"`
	} `json:"names"`
}

var models = sync.OnceValue(func() (all checkpoints) {
	_ = load("models.json", &all) // as above
	return all
})

// FindModel returns the model of a repository such as "Qwen/Qwen3-8B-AWQ". The longest
// matching prefix counts: a variant is described as its base model.
func FindModel(repository string) (best Model, known bool) {
	name := strings.ToLower(path.Base(repository))
	for _, m := range models().Models {
		if strings.HasPrefix(name, m.Prefix) && len(m.Prefix) > len(best.Prefix) {
			best, known = m, true
		}
	}
	return best, known
}

// MethodInName is the quantization method that stands in a repository's name in small letters; "" for none.
func MethodInName(name string) string {
	for _, n := range models().Names {
		if strings.Contains(name, n.Part) {
			return n.Method
		}
	}
	return ""
}

// FindQuantization returns what is known of a method, such as "awq_marlin".
func FindQuantization(method string) (Quantization, bool) {
	q, known := models().Quantizations[method]
	return q, known
}
