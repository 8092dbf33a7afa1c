package lifecycle_test

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// podmanVM are the facts of a virtual machine with Podman in place of Docker.
func podmanVM() machinefs.Facts {
	facts := vm()
	facts.Podman = "5.4.2"
	return facts
}

// cdiVM are those of one whose Docker gives GPUs to containers by CDI only.
func cdiVM() machinefs.Facts {
	facts := vm()
	facts.CDIOnly = true
	return facts
}

// made is how a container was created, as the engine reports it.
type made struct {
	HostConfig struct {
		RestartPolicy  struct{ Name string }
		DeviceRequests []device
		IpcMode        string
		ShmSize        int64
		Mounts         []struct{ Type, Source, Target string }
	}
}

type device struct {
	Driver       string
	Count        int
	DeviceIDs    []string
	Capabilities [][]string
}

func (r *rig) made(t *testing.T, id string) made {
	t.Helper()
	var answer made
	if code := r.api(t, http.MethodGet, "/v1.41/containers/"+id+"/json", "", &answer); code != http.StatusOK {
		t.Fatalf("inspecting %s: %d", id, code)
	}
	return answer
}

// The whole life of a deployment on Podman and on a Docker that knows CDI only.
func TestOtherEngines(t *testing.T) {
	t.Parallel()
	needRoot := func() machinefs.Facts {
		facts := podmanVM()
		facts.DockerNeedsRoot = true
		return facts
	}
	tests := []struct {
		name                string
		facts               func() machinefs.Facts
		engine, via, policy string
	}{
		{"Podman", podmanVM, "Podman 5.4.2", "podman system dial-stdio", "always"},
		{"Podman for root only", needRoot, "Podman 5.4.2", "sudo -n podman system dial-stdio", "always"},
		{"Docker with CDI", cdiVM, "Docker 28.4.0", "docker system dial-stdio", "unless-stopped"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, test.facts())
			facts, _ := preflight(t, r, request())
			if facts.Engine != test.engine || facts.Reach+" system dial-stdio" != test.via {
				t.Errorf("engine %q, reached by %q", facts.Engine, facts.Reach)
			}
			first := launch(t, r, request())
			host := r.made(t, first.ID).HostConfig
			want := []device{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=all"}}}
			if diff := cmp.Diff(want, host.DeviceRequests); diff != "" {
				t.Error(diff)
			}
			if host.RestartPolicy.Name != test.policy || !first.RestartsItself {
				t.Errorf("restart policy %q, restarts itself: %t", host.RestartPolicy.Name, first.RestartsItself)
			}
			killServer(t, r)
			testkit.Eventually(t, "an answer after the restart", func() bool { return answers(t, r, first, testKey) == nil })
			broken := request()
			broken.Spec.ExtraArgs = []string{"--no-such-flag"}
			back, err := lifecycle.Replace(within(t, limit), r, first.Ref, broken, lifecycle.Rollback)
			contains(t, wantError(t, r, err).Description(), "The old server is running again and has answered", "no-such-flag")
			wanted := request()
			wanted.Spec.MaxModelLen = 2048
			second, err := lifecycle.Replace(within(t, limit), r, back.Ref, wanted, lifecycle.Rollback)
			if err != nil {
				t.Fatalf("%v\n%s", err, describe(err))
			}
			if err := answers(t, r, second, testKey); err != nil || r.servers(t) != 1 {
				t.Errorf("%d servers, %v", r.servers(t), err)
			}
			remove(t, r, second)
			r.clean(t)
		})
	}
}

// What Podman lacks for GPUs, for a boot, and in older releases is a finding with its way out.
func TestPodmansLimits(t *testing.T) {
	t.Parallel()
	t.Run("starts nothing at boot", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, podmanVM())
		status := launch(t, r, request())
		contains(t, strings.Join(status.Warnings, "\n"), "Podman is not set up to start containers when the machine boots", "podman-restart.service")
		remove(t, r, status)
	})
	t.Run("no CDI devices", func(t *testing.T) {
		t.Parallel()
		if found, err := filepath.Glob("/etc/cdi/*"); err != nil || len(found) > 0 {
			t.Skip("SKIPPED: what a machine without CDI devices says: this computer has some")
		}
		facts := podmanVM()
		facts.NoGPURuntime = true
		r := newRig(t, facts)
		failed := launchFails(t, r, request(), limit)
		if !hasFinding(failed.Findings, "docker_gpu", deploy.Blocking) {
			t.Errorf("found %v", failed.Findings)
		}
		contains(t, failed.Description(), "Podman", "nvidia-ctk cdi generate")
	})
	t.Run("older than 5.1", func(t *testing.T) {
		t.Parallel()
		facts := podmanVM()
		facts.Podman = "4.9.4"
		r := newRig(t, facts)
		status := launch(t, r, request())
		contains(t, strings.Join(status.Warnings, "\n"), "will not restart automatically", "Podman 4.9.4", "5.1")
		if status.RestartsItself {
			t.Error("said to restart itself")
		}
		remove(t, r, status)
	})
}

// A deployment gets the GPUs that it asks for, by capability and by CDI.
func TestContainersGPUs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		gpus string
		want []int
	}{
		{"all", []int{0, 1}}, {"1", []int{0}}, {"device=1", []int{1}}, {"0,GPU-second", []int{0, 1}},
	}
	for name, facts := range map[string]func() machinefs.Facts{"capability": vm, "CDI": cdiVM, "Podman": podmanVM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			two := facts()
			two.GPUs = append(two.GPUs, machinefs.GPU{
				Name: two.GPUs[0].Name, UUID: "GPU-second", MemoryMiB: two.GPUs[0].MemoryMiB, ComputeCapability: "8.9",
			})
			r := newRig(t, two)
			for _, test := range tests {
				wanted := request()
				wanted.Container.GPUs = test.gpus
				status := launch(t, r, wanted)
				if got := r.taken(t); !slices.Equal(got, test.want) {
					t.Errorf("gpus = %q takes the GPUs %v, want %v", test.gpus, got, test.want)
				}
				remove(t, r, status)
			}
		})
	}
}

// taken are the GPUs on which servers hold memory.
func (r *rig) taken(t *testing.T) []int {
	t.Helper()
	claims, err := r.machine.Root().Claims()
	if err != nil {
		t.Fatal(err)
	}
	var gpus []int
	for _, claim := range claims {
		for gpu, mib := range claim.MiB {
			if mib > 0 && !slices.Contains(gpus, gpu) {
				gpus = append(gpus, gpu)
			}
		}
	}
	slices.Sort(gpus)
	return gpus
}

// An image for the CPU gets no GPUs, although the engine could give some.
func TestContainerWithoutGPUs(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	wanted := request()
	wanted.Container.GPUs, wanted.KeepFailed = "none", true // the stand-in for vLLM is none for the CPU
	failed := launchFails(t, r, wanted, limit)
	contains(t, failed.Description(), "sees no GPU")
	left := r.containers(t)
	if len(left) != 1 {
		t.Fatalf("containers: %+v", left)
	}
	if requests := r.made(t, left[0].ID).HostConfig.DeviceRequests; len(requests) > 0 {
		t.Errorf("asked for %+v", requests)
	}
}

// No restart policy while the first start is watched: a crash would become a loop. It comes with the first answer.
func TestRestartPolicyComesWithTheFirstAnswer(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		var before []string
		seen := &events{on: func(e lifecycle.Event) {
			if e.Phase == deploy.PhaseLoad || e.Phase == deploy.PhaseCompletion && strings.HasPrefix(e.Message, "asking") {
				before = append(before, r.policy(t))
			}
		}}
		wanted := request()
		wanted.Progress = seen.add
		status, err := lifecycle.Launch(within(t, limit), r, wanted)
		if err != nil {
			t.Fatalf("%v\n%s", err, describe(err))
		}
		if len(before) < 2 || slices.ContainsFunc(before, func(policy string) bool { return policy != "no" }) {
			t.Errorf("before it answered: %q", before)
		}
		if after := r.policy(t); after != "unless-stopped" {
			t.Errorf("afterwards: %q", after)
		}
		remove(t, r, status)
	})
}

// policy is the one server's restart policy, in Docker's words.
func (r *rig) policy(t *testing.T) string {
	t.Helper()
	if r.engine != nil {
		if list := r.containers(t); len(list) == 1 {
			return r.made(t, list[0].ID).HostConfig.RestartPolicy.Name
		}
		return "no container"
	}
	settled, err := filepath.Glob(filepath.Join(r.machine.Root().Home(), ".shopper-vllm", "servers", "*", "settled"))
	if err != nil {
		t.Fatal(err)
	}
	if len(settled) == 1 {
		return "unless-stopped"
	}
	return "no"
}

// The caches outlive an update and a removal.
func TestCachesSurvive(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	volumes := func() []string {
		var list struct {
			Volumes []struct{ Name, CreatedAt string }
		}
		r.api(t, http.MethodGet, "/v1.41/volumes", "", &list)
		var names []string
		for _, volume := range list.Volumes {
			names = append(names, volume.Name+" of "+volume.CreatedAt)
		}
		slices.Sort(names)
		return names
	}
	status := launch(t, r, request())
	first := volumes()
	if len(first) != 2 {
		t.Fatalf("volumes: %q", first)
	}
	wanted := request()
	wanted.Spec.MaxModelLen = 2048
	status, err := lifecycle.Replace(within(t, limit), r, status.Ref, wanted, lifecycle.Rollback)
	if err != nil {
		t.Fatalf("%v\n%s", err, describe(err))
	}
	var used []string
	for _, m := range r.made(t, status.ID).HostConfig.Mounts {
		used = append(used, m.Type+" "+m.Source)
	}
	if want := []string{"volume shopper-vllm-huggingface", "volume shopper-vllm-vllm"}; !slices.Equal(used, want) {
		t.Errorf("the new server uses %q, want %q", used, want)
	}
	remove(t, r, status)
	if left := volumes(); !slices.Equal(left, first) {
		t.Errorf("volumes are %q, were %q", left, first)
	}
}

// The error says that a container's log can't be read, or that it is empty.
func TestUnreadableContainerLogIsSaid(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	r.facts(t, func(f *machinefs.Facts) { f.VLLM.Fail = "out_of_memory" })
	r.engine.FailLogs("configured logging driver does not support reading")
	failed := launchFails(t, r, request(), limit)
	if failed.LogErr == nil {
		t.Error("LogErr is nil")
	}
	contains(t, failed.Description(), "log could not be read", "does not support reading")
	r.clean(t)
	r.engine.FailLogs("")
	r.facts(t, func(f *machinefs.Facts) { f.VLLM.Fail = "gpu_runtime" }) // the engine doesn't start it
	contains(t, launchFails(t, r, request(), limit).Description(), "Its log is empty")
	r.clean(t)
}
