package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// Preflight looks at a machine before anything heavy is done, and changes nothing on it. It waits for a driver that is still being
// built until its phase's share of ctx's time is used up. Its error is about the connection; what is wrong
// with the machine is in the findings.
func Preflight(ctx context.Context, machine deploy.Machine, request Request) (Facts, []deploy.Finding, error) {
	l := newLaunch(ctx, machine, request)
	if err := request.Validate(); err != nil {
		return Facts{}, nil, l.failed(ctx, failure{phase: deploy.PhasePreflight, summary: "Deployment can't be used as described", err: err})
	}
	phase, cancel := l.schedule.enter(ctx, deploy.PhasePreflight)
	defer cancel()
	survey, err := l.look(phase)
	if err != nil {
		return Facts{}, nil, l.failed(ctx, failure{phase: deploy.PhasePreflight, summary: "Machine could not be examined", err: err})
	}
	defer survey.close()
	return survey.facts(), survey.judge(), nil
}

// GPUs lists a machine's GPUs. It doesn't wait for a driver.
func GPUs(ctx context.Context, machine deploy.Machine) ([]deploy.GPU, error) {
	gpus, err := deploy.QueryGPUs(ctx, machine)
	if err != nil {
		return nil, &deploy.Error{Phase: deploy.PhaseInspect, Summary: "GPUs could not be listed", WayOut: host.DetailOf(err), Err: err}
	}
	return gpus, nil
}

// errBlocked is the cause of a launch that preflight stopped.
var errBlocked = errors.New("the machine can't run this deployment as it is")

// preflight examines the machine and opens the runtime; findings that block end the launch.
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
		return l.failed(ctx, failure{phase: deploy.PhasePreflight, summary: "Machine could not be examined", err: err})
	}
	l.runtime, l.facts = survey.runtime, survey.facts()
	if survey.engine != nil {
		_ = survey.engine.Close() // it isn't used; only idle connections are left to close
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
		e := l.failed(ctx, failure{
			phase: deploy.PhasePreflight, summary: "Machine can't run this deployment", err: errBlocked,
			cause: findings[0].Fact, wayOut: findings[0].WayOut, detail: howToOverrule(findings),
		})
		e.Findings = findings
		e.OfMachine = findings[0].Code == codeDriver || findings[0].Code == codeGPU && len(survey.allGPUs) == 0
		return e
	}
	l.request.Spec = survey.request.Spec
	l.progress.report(deploy.PhasePreflight, l.facts.String())
	return nil
}

// examine looks at the machine within preflight's time.
func (l *launch) examine(ctx context.Context) (survey *survey, err error) {
	l.progress.report(deploy.PhasePreflight, "examining the machine")
	phase, cancel := l.schedule.enter(ctx, deploy.PhasePreflight)
	defer cancel()
	err = l.again(phase, deploy.PhasePreflight, func() (err error) {
		survey, err = l.look(phase)
		return err
	})
	return survey, err
}

// installEngine installs what the machine lacks for containers. It may take the pull's share of the time, and leaves preflight
// its own. It is done once: after it, an engine that is missing still is a finding.
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
		return l.failed(ctx, failure{phase: deploy.PhasePull, summary: "Container engine could not be installed", err: err})
	}
	l.schedule.delay(deploy.PhasePreflight, time.Since(begun))
	l.installed = true
	return nil
}

func (s *survey) facts() Facts {
	facts := Facts{Reason: s.reason, GPUs: s.gpus, DiskFreeBytes: max(s.imageDisk.free, 0), Own: s.own}
	if s.runtime != nil {
		facts.Runtime = s.runtime.Kind()
	}
	if r, ok := s.runtime.(*container.Engine); ok {
		engine := r.Facts()
		facts.Engine, facts.EngineVia = engine.Name+" "+engine.Version, engine.Via
	}
	return facts
}

// String is the facts in one line, for a log.
func (f Facts) String() string {
	text := fmt.Sprintf("the machine has %d GPUs", len(f.GPUs))
	if len(f.GPUs) > 0 {
		text = fmt.Sprintf("%s (%s, driver %s)", text, f.GPUs[0].Name, f.GPUs[0].DriverVersion)
	}
	text += fmt.Sprintf(", %.0f GB of disk free; the server will be a %s", float64(f.DiskFreeBytes)/1e9, f.Runtime)
	if f.Engine != "" {
		text += " of " + f.Engine
	}
	if f.Reason != "" {
		text += ": " + f.Reason
	}
	return text
}
