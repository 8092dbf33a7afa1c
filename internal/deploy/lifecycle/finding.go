package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// The codes of findings.
const (
	codeDocker        = "docker" // there is no engine to start a container with
	codeDockerGPU     = "docker_gpu"
	codeBoot          = "boot"
	codeUser          = "user"
	codeDriver        = "driver"
	codeDriverVersion = "driver_version"
	codeVLLMVersion   = "vllm_version"
	codeGPU           = "gpu"
	codeGPUCount      = "gpu_count"
	codeGPUsIdle      = "gpus_idle"
	codeCapability    = "gpu_capability"
	codeMemory        = "gpu_memory"
	codeMemoryHeld    = "gpu_memory_held"
	codePort          = "port"
	codeOpenPort      = "open_port"
	codeDisk          = "disk"
	codeTools         = "tools"
	codeHub           = "hub"
)

// codes are those that a request can overrule, and what they find. Those of lasting are worth telling although the server has
// answered; the others only foretell why it may not.
var (
	lasting = []string{codeBoot, codeGPUsIdle, codeVLLMVersion, codeOpenPort}
	codes   = []struct{ code, finds string }{
		{codeDockerGPU, "an engine that gives containers no GPU"},
		{codeBoot, "an engine that starts no container at boot"},
		{codeUser, "a container's user outside group 0"},
		{codeDriver, "an NVIDIA driver that doesn't work"},
		{codeDriverVersion, "a driver that is too old for the release"},
		{codeVLLMVersion, "an older release, taken for an old driver or GPU"},
		{codeGPU, "no GPU that can be used"},
		{codeGPUCount, "fewer GPUs than requested"},
		{codeGPUsIdle, "GPUs that stay idle"},
		{codeCapability, "a GPU that the release or `dtype` doesn't support"},
		{codeMemory, "too little GPU memory for the model"},
		{codeMemoryHeld, "GPU memory that something else holds"},
		{codePort, "a port that is taken"},
		{codeOpenPort, "a release that has one more port open"},
		{codeDisk, "too little disk"},
		{codeTools, "no C compiler, or no pip, for a process"},
		{codeHub, "a model hub that can't be reached"},
	}
)

// Codes lists the codes of findings that [Request.Ignore] takes.
func Codes() []string {
	list := make([]string, len(codes))
	for i, c := range codes {
		list[i] = c.code
	}
	return list
}

// DescribeCodes says what each of [Codes] finds, for a page, in Markdown.
func DescribeCodes() string {
	list := make([]string, len(codes))
	for i, c := range codes {
		list[i] = fmt.Sprintf("%#q (%s)", c.code, c.finds)
	}
	return strings.Join(list, ", ")
}

// Facts are what preflight saw of a machine. A figure that could not be had is zero.
type Facts struct {
	// Runtime is the one that will be used, and Reason why, where the request left the choice.
	Runtime deploy.Kind
	Reason  string
	GPUs    []deploy.GPU
	// Engine is the container engine and its version, and how it was reached; "" when none was.
	Engine    string
	EngineVia string
	// DiskFreeBytes is what is free where images and weights go.
	DiskFreeBytes int64
	// Own are servers of the same owner that are there already, such as those of a launch that was killed.
	Own []deploy.Status
}

// overrule makes warnings of the errors that the request ignores.
func (r Request) overrule(findings []deploy.Finding) {
	for i, finding := range findings {
		if finding.Severity == deploy.Blocking && r.ignores(finding.Code) {
			findings[i].Severity = deploy.Warning
			findings[i].WayOut = "The server is started all the same, as preflight.ignore says. If that fails: " + finding.WayOut
		}
	}
}

// ignores tells whether the request overrules findings with that code. Without an engine no container can be started.
func (r Request) ignores(code string) bool {
	return code != codeDocker && slices.Contains(r.Ignore, code)
}

// howToOverrule says how to start all the same; "" where that can't be done.
func howToOverrule(findings []deploy.Finding) string {
	var list []string
	for _, finding := range findings {
		name := fmt.Sprintf("%q", finding.Code)
		switch {
		case finding.Severity != deploy.Blocking || slices.Contains(list, name):
		case finding.Code == codeDocker:
			return ""
		default:
			list = append(list, name)
		}
	}
	return fmt.Sprintf("If you know better, preflight = { ignore = [%s] } starts the server all the same.", strings.Join(list, ", "))
}
