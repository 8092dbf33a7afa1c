package lifecycle_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// oomLine is the kernel's (mm/oom_kill.c, __oom_kill_process).
const oomLine = "[ 4711.1] Out of memory: Killed process 815 (VLLM::EngineCor) total-vm:91234567kB, anon-rss:62345678kB"

// kernel is a machine whose kernel's counters change from one look to the next.
type kernel struct {
	*rig
	told []string
}

func (k *kernel) Run(ctx context.Context, command host.Command) (host.Result, error) {
	if !slices.Equal(command.Args, []string{"sh"}) {
		return k.rig.Run(ctx, command)
	}
	now := k.told[0]
	if len(k.told) > 1 {
		k.told = k.told[1:]
	}
	return host.Result{Stdout: now}, nil
}

// The cause of a death says no more about the killer than the kernel's counters prove.
func TestDeathIsProved(t *testing.T) {
	t.Parallel()
	count := func(n int) *int { return &n }
	died := vllm.Diagnosis{Kind: vllm.KindEngineDied, Cause: "as before"}
	const proved, perhaps, other, unknown = "The kernel killed a part of vLLM", "most likely this one", "killed nothing for lack of" +
		" memory", "Most likely the kernel killed it"
	for name, test := range map[string]struct {
		oomKilled     bool
		before, after deploy.Kills
		want          string
		quoted        bool
	}{
		"nothing is readable":         {false, deploy.Kills{}, deploy.Kills{}, unknown, false},
		"only afterwards":             {false, deploy.Kills{}, deploy.Kills{Kernel: count(3), Line: oomLine}, unknown, false},
		"the engine says so":          {true, deploy.Kills{}, deploy.Kills{}, proved, false},
		"the container's count":       {false, deploy.Kills{Own: count(0), OwnOnly: true}, deploy.Kills{Own: count(1), OwnOnly: true, Line: oomLine}, proved, true},
		"another container's":         {false, deploy.Kills{Own: count(1), OwnOnly: true, Kernel: count(1)}, deploy.Kills{Own: count(1), OwnOnly: true, Kernel: count(2), Line: oomLine}, other, false},
		"an old container's count":    {false, deploy.Kills{Own: count(0), Kernel: count(1)}, deploy.Kills{Own: count(0), Kernel: count(2)}, perhaps, false},
		"the machine's, and its log":  {false, deploy.Kills{Kernel: count(0)}, deploy.Kills{Kernel: count(1), Line: oomLine}, proved, true},
		"the machine's, without log":  {false, deploy.Kills{Kernel: count(0)}, deploy.Kills{Kernel: count(1)}, perhaps, false},
		"the machine's, old log line": {false, deploy.Kills{Kernel: count(1), Line: oomLine}, deploy.Kills{Kernel: count(2), Line: oomLine}, perhaps, false},
		"something else was killed": {
			false, deploy.Kills{Kernel: count(0)}, deploy.Kills{Kernel: count(1), Line: strings.Replace(oomLine, "VLLM::EngineCor", "postgres", 1)}, perhaps, false,
		},
		"not moved":     {false, deploy.Kills{Kernel: count(7), Line: oomLine}, deploy.Kills{Kernel: count(7), Line: oomLine}, other, false},
		"booted since":  {false, deploy.Kills{Kernel: count(7)}, deploy.Kills{Kernel: count(1), Line: oomLine}, unknown, false},
		"not moved own": {false, deploy.Kills{Own: count(2), OwnOnly: true}, deploy.Kills{Own: count(2), OwnOnly: true}, other, false},
	} {
		got := lifecycle.ExplainDeath(died, deploy.Status{OOMKilled: test.oomKilled}, test.before, test.after)
		if !strings.Contains(got.Cause, test.want) || strings.Contains(got.Cause, "VLLM::EngineCor") != test.quoted || got.WayOut == "" {
			t.Errorf("%s: %s", name, got.Cause)
		}
		if test.want == other && strings.Contains(got.Cause+got.WayOut, "RAM") {
			t.Errorf("%s: memory is claimed: %s %s", name, got.Cause, got.WayOut)
		}
	}
	told := vllm.Diagnosis{Kind: vllm.KindDiskFull, Cause: "The disk is full."}
	if got := lifecycle.ExplainDeath(told, deploy.Status{OOMKilled: true}, deploy.Kills{}, deploy.Kills{}); got.Cause != told.Cause {
		t.Errorf("a log's own cause became %s", got.Cause)
	}
}

// A launch explains a killed server by the kernel's counters.
func TestKilledServerIsExplainedByTheKernel(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		told []string
		want []string
	}{
		"counted":   {[]string{"cgroup2 0\nkernel 5\n", "cgroup2 1\nkernel 9\nline " + oomLine + "\n"}, []string{"The kernel killed a part of vLLM", oomLine, "exit code 137", "more RAM"}},
		"not moved": {[]string{"kernel 5\n"}, []string{"killed nothing for lack of memory", "exit code 137", "segfault"}},
		"silent":    {[]string{""}, []string{"Most likely the kernel killed it", "RAM, not the GPU's", "exit code 137"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pod())
			r.facts(t, func(f *machinefs.Facts) { f.VLLM.Load = time.Hour })
			wanted, killed := processRequest(), make(chan struct{})
			wanted.Progress = (&events{on: func(e lifecycle.Event) {
				if e.Message == "waiting for the model to load" {
					go func() {
						defer close(killed)
						testkit.Eventually(t, "a server", func() bool { return r.servers(t) == 1 })
						killServer(t, r)
					}()
				}
			}}).add
			_, err := lifecycle.Launch(within(t, limit), &kernel{rig: r, told: test.told}, wanted)
			<-killed
			contains(t, wantError(t, r, err).Description(), test.want...)
			r.clean(t)
		})
	}
}

// The script finds the counter of the kernel that these tests run on.
func TestKernelIsAsked(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/vmstat"); err != nil {
		t.Skip("SKIPPED: no Linux")
	}
	if kills := lifecycle.CountKills(within(t, limit), newRig(t, pod())); kills.Kernel == nil {
		t.Errorf("%+v", kills)
	}
}
