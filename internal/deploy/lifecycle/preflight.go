package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// errBlocked is the error of a launch that preflight stopped.
var errBlocked = errors.New("the machine can't run this deployment")

// preflight inspects the machine and opens the runtime. Blocking findings are an error.
func (l *launch) preflight(ctx context.Context) error {
	survey, err := l.examine(ctx)
	if err == nil && survey.lacksEngine && !blocks(survey.judge()) {
		survey.close()
		if err := l.installEngine(ctx); err != nil {
			return err
		}
		survey, err = l.examine(ctx)
	}
	if err != nil {
		return l.failed(ctx, failure(deploy.PhasePreflight, "Machine could not be inspected", err))
	}
	l.runtime, l.gpus, l.own = survey.runtime, survey.gpus, survey.own
	if survey.engine != nil {
		_ = survey.engine.Close() // only idle connections are left to close
	}
	findings := survey.judge()
	for _, finding := range findings {
		if finding.Severity == deploy.Warning {
			l.progress.report(deploy.PhasePreflight, finding.String())
			if slices.Contains(lasting, finding.Code) {
				l.warnings = append(l.warnings, vllm.MaskSecrets(finding.String(), l.request.secrets()...))
			}
		}
	}
	if blocks(findings) {
		e := l.failed(ctx, &deploy.Error{
			Phase: deploy.PhasePreflight, Summary: "Machine can't run this deployment", Err: errBlocked,
			Cause: findings[0].Fact, WayOut: findings[0].WayOut, Detail: howToOverrule(findings),
		})
		e.Findings = findings
		e.OfMachine = findings[0].Code == codeDriver || findings[0].Code == codeGPU && len(survey.allGPUs) == 0
		return e
	}
	l.request.Spec = survey.request.Spec
	l.progress.report(deploy.PhasePreflight, survey.String())
	return nil
}

// examine surveys the machine within preflight's time.
func (l *launch) examine(ctx context.Context) (survey *survey, err error) {
	l.progress.report(deploy.PhasePreflight, "inspecting the machine")
	phase, cancel := l.schedule.enter(ctx, deploy.PhasePreflight)
	defer cancel()
	err = l.again(phase, deploy.PhasePreflight, func() (err error) {
		survey, err = l.look(phase)
		return err
	})
	return survey, err
}

// installEngine installs a container engine, or its GPU support, within the pull's time; preflight keeps its time. It runs once: an
// engine that is still missing is a finding.
func (l *launch) installEngine(ctx context.Context) error {
	l.progress.report(deploy.PhasePull, "installing a container engine")
	begun := time.Now()
	phase, cancel := l.schedule.enter(ctx, deploy.PhasePull)
	defer cancel()
	tell := func(line string) { l.progress.often(deploy.PhasePull, line) }
	install := func() error {
		return container.Install(phase, l.machine, l.request.Container.GPUs != "none", tell)
	}
	err := install()
	for phase.Err() == nil && l.bears(deploy.PhasePull, err) {
		err = install()
	}
	if err != nil {
		return l.failed(ctx, failure(deploy.PhasePull, "Container engine could not be installed", err))
	}
	l.schedule.delay(deploy.PhasePreflight, time.Since(begun))
	l.installed = true
	return nil
}

// String summarizes the survey in one line, for a log.
func (s *survey) String() string {
	text := "the machine has " + gpuCount(len(s.gpus))
	if len(s.gpus) > 0 {
		text = fmt.Sprintf("%s (%s, driver %s)", text, s.gpus[0].Name, s.gpus[0].DriverVersion)
	}
	text += fmt.Sprintf(", %.0f GB of disk free; the server will be a %s", float64(max(s.imageDisk.free, 0))/1e9, s.runtime.Kind())
	if engine, ok := s.runtime.(*container.Engine); ok {
		text += " of " + engine.Facts.Name + " " + engine.Facts.Version
	}
	if s.reason != "" {
		text += ": " + s.reason
	}
	return text
}

// Code describes a kind of finding, for the documentation.
type Code struct {
	Code  string
	Finds string // a noun phrase
	Cure  string // what to do in general; a finding's WayOut has the machine's figures
}

// The codes of findings.
var (
	codes []Code // those that a request can overrule
	// lasting are the codes of warnings that matter although the server has answered.
	lasting = []string{codeBoot, codeGPUsIdle, codeVLLMVersion}

	codeDockerGPU = newCode("docker_gpu", "an engine that gives containers no GPU",
		"Set `container.install_engine`, install NVIDIA's container toolkit, or use `process`.")
	codeBoot = newCode("boot", "an engine that starts no container at boot",
		"Enable Podman's service `podman-restart`; otherwise the next apply after a reboot starts the server.")
	codeUser   = newCode("user", "a container's user outside group 0", "Use a user of group 0, such as `2000:0`.")
	codeDriver = newCode("driver", "an NVIDIA driver that doesn't work",
		"Raise `timeouts.create` where the driver is still being built after boot. Otherwise rent another machine.")
	codeDriverVersion = newCode("driver_version", "a driver that is too old for the release",
		"Require `min_cuda_version` of the session (Vast.ai), or choose an older release.")
	codeVLLMVersion = newCode("vllm_version", "an older release, chosen because of an old driver or GPU",
		"Require `min_cuda_version` for a newer release, or set `process.version` to keep this one.")
	codeGPU      = newCode("gpu", "no GPU that can be used", "Check `container.gpus` and `CUDA_VISIBLE_DEVICES`, or rent another machine.")
	codeGPUCount = newCode("gpu_count", "fewer GPUs than requested", "Lower `tensor_parallel_size`, or rent a machine with more GPUs.")
	codeGPUsIdle = newCode("gpus_idle", "GPUs that stay idle",
		"Set `tensor_parallel_size` and `pipeline_parallel_size`, or rent fewer GPUs; a second deployment may use the others.")
	codeCapability = newCode("gpu_capability", "a GPU that the release or `dtype` doesn't support",
		"Rent a GPU that it supports, choose another release, or set `dtype = \"half\"`.")
	codeMemory = newCode("gpu_memory", "too little GPU memory for the model",
		"Rent larger or more GPUs, choose a quantized model, or lower `max_model_len`. `min_vram_gib` replaces the estimate.")
	codeMemoryHeld = newCode("gpu_memory_held", "GPU memory that something else holds",
		"End what holds it, choose another GPU, or lower `gpu_memory_utilization`.")
	codePort  = newCode("port", "a port that is taken", "Choose another `port`, or end the program that listens there.")
	codeDisk  = newCode("disk", "too little disk", "Rent with a larger `disk_gb` (Vast.ai), or make room.")
	codeTools = newCode("tools", "no C compiler, or no pip, for a process",
		"Install them in the image or with `on_start_cmd`, or leave `process.install` out where root or `sudo` allow.")
	codeHub = newCode("hub", "an unreachable model hub",
		"Check the machine's network, or set `HF_ENDPOINT` or `HTTPS_PROXY` in `env`.")
)

// codeDocker can't be overruled: no container can be started without an engine.
const codeDocker = "docker"

func newCode(code, finds, cure string) string {
	codes = append(codes, Code{code, finds, cure})
	return code
}

// Codes lists the codes of findings that [Request.Ignore] takes.
func Codes() []string {
	list := make([]string, len(codes))
	for i, c := range codes {
		list[i] = c.Code
	}
	return list
}

// Findings describes the codes and "docker", for the documentation.
func Findings() []Code {
	return append(slices.Clone(codes), Code{
		codeDocker, "no container engine that can be used; it can't be ignored",
		"Set `container.install_engine` on a virtual machine, or use `process`.",
	})
}

// DescribeCodes describes [Codes] in one line of Markdown.
func DescribeCodes() string {
	list := make([]string, len(codes))
	for i, c := range codes {
		list[i] = fmt.Sprintf("%#q (%s)", c.Code, c.Finds)
	}
	return strings.Join(list, ", ")
}

// overrule turns blocking findings that the request ignores into warnings.
func (r Request) overrule(findings []deploy.Finding) {
	for i, finding := range findings {
		if finding.Severity == deploy.Blocking && r.ignores(finding.Code) {
			findings[i].Severity = deploy.Warning
			findings[i].WayOut = "The server is started anyway, because of preflight.ignore. If the start fails: " + finding.WayOut
		}
	}
}

// ignores reports whether the request overrules findings of the code.
func (r Request) ignores(code string) bool {
	return code != codeDocker && slices.Contains(r.Ignore, code)
}

// howToOverrule says how to start anyway; "" if that is impossible.
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
	return fmt.Sprintf("If you know better, preflight = { ignore = [%s] } starts the server anyway.", strings.Join(list, ", "))
}
