package provider_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// wayOut is what the diagnostic of each failed start must contain: the cause, and then what to set.
var wayOut = map[string][2]string{
	"gpu_memory_held":         {"another process holds GPU memory", "gpu_memory_utilization to 0.13 or less"},
	"no_cache_memory":         {"weights fill the GPU", "a larger GPU, more GPUs"},
	"cache_too_small":         {"needs 4.00 GiB of KV cache", "max_model_len to 17280"},
	"cache_too_small_old":     {"KV cache for one sequence", "max_model_len to 17280"},
	"out_of_memory":           {"23.53 GiB of memory are not enough", "a smaller max_model_len"},
	"max_model_len":           {"exceeds the model's limit", "max_model_len to 32768"},
	"quantization_capability": {"too old for the quantization method modelopt", "compute capability 8.9 or newer"},
	"quantization_mismatch":   {"quantized as awq", "Remove quantization"},
	"quantization_unknown":    {"the quantization method awqq", "Remove quantization"},
	"gated_model":             {"it is gated", "set hf_token"},
	"hub_unauthorized":        {"refused the download", "Set hf_token"},
	"hub_forbidden":           {"it is gated", "Accept the terms"},
	"model_unknown":           {"model org/nosuch-model was not found", "Check model for typing errors"},
	"heads_not_divisible":     {"28 attention heads", "tensor_parallel_size to a divisor of 28"},
	"trust_remote_code":       {"only with trust_remote_code", "trust_remote_code to true"},
	"architecture":            {"GptOssForCausalLM", "a newer vLLM image"},
	"disk_full":               {"disk is full", "a larger disk_gb"},
	"shm_full":                {"shared memory is full", "shm_size"},
	"cuda_requirement":        {"driver is older than vLLM needs: the image needs CUDA 13.0", "offer_id to exclude_offers"},
	"driver_too_old":          {"the driver supports at most CUDA 12.4", "v0.8.5.post1"},
	"forward_compatibility":   {"driver is older than vLLM needs", "min_cuda_version = 13.0"},
	"unsupported_ptx":         {"driver can't compile", "a machine with a newer driver"},
	"no_compiler":             {"no C compiler", "apt-get install"},
	"python_headers":          {"Python.h", "python3-dev"},
	"cuda_library":            {"different CUDA versions", "process.directory"},
	"driver_mismatch":         {"driver was updated", "Reboot"},
	"nccl":                    {"NCCL", "shm_size"},
	"kv_heads":                {"key-value heads", "tensor_parallel_size"},
	"unknown_gpu":             {"a GPU that the machine doesn't have", "container.gpus"},
	"gpu_runtime":             {"the NVIDIA container toolkit is missing", `runtime = "process"`},
	"port_in_use":             {"uses the port", "Set port to a free one"},
	"port_allocated":          {"uses port 8000", "Set port to a free one"},
	"unrecognized_arguments":  {"--flag-of-another-release", "Remove it from args"},
	"world_size":              {"more GPUs than the 1 that it sees", "tensor_parallel_size"},
	"bfloat16":                {"doesn't support bfloat16", `dtype to "half"`},
	"no_gpu":                  {"sees no GPU", "CUDA_VISIBLE_DEVICES"},
}

// Each failure of a start is reported as one cause with its way out, before the log's own words; nothing is left, and the
// machine stays.
func TestDeploymentFailureRows(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	m := w.theMachine(t)
	wanted := onSession(t, session, nil)
	for _, row := range vllmserver.Failures() {
		want, ok := wayOut[row.Name]
		if !ok {
			t.Errorf("%s: nobody says what its diagnostic contains", row.Name)
			continue
		}
		if err := m.SetFacts(func(f *machinefs.Facts) { f.VLLM.Fail = row.Name }); err != nil {
			t.Fatal(err)
		}
		made, diags := c.apply(deploymentType, c.plan(deploymentType, object{}, wanted))
		if !made.state.IsNull() || !failed(diags) {
			t.Errorf("%s: it is in state, or was no error", row.Name)
		}
		said := list(diags)
		diagnosis, log, _ := strings.Cut(said, "The log's last relevant lines")
		_, after, cause := strings.Cut(diagnosis, want[0])
		if !cause || !strings.Contains(after, want[1]) {
			t.Errorf("%s: want %q in front of the log in\n%s", row.Name, want, said)
		}
		if strings.Contains(said, "Cause:") || !strings.Contains(said, "removed from the machine") {
			t.Errorf("%s: %s", row.Name, said)
		}
		if !row.Container && log == "" {
			t.Errorf("%s: without the log:\n%s", row.Name, said)
		}
		if err := w.nothingServes(nil); err != nil {
			t.Errorf("%s: %v", row.Name, err)
		}
		if text(t, session.state, "id") == "" || len(w.Ledger().Billing) != 1 {
			t.Fatal("the session was touched")
		}
	}
}

// A server that dies, or keeps dying, is noticed by the next plan with the reason, and the next apply restarts it.
func TestDeploymentThatDied(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	wanted := onSession(t, session, nil)
	server := c.create(deploymentType, wanted)
	m := w.theMachine(t)
	if err := m.SetFacts(func(f *machinefs.Facts) { f.VLLM.Fail = "out_of_memory" }); err != nil {
		t.Fatal(err)
	}
	claims, err := w.servers()
	if err != nil || len(claims) != 1 {
		t.Fatalf("servers: %v, %v", claims, err)
	}
	if err := syscall.Kill(claims[0].PID, syscall.SIGKILL); err != nil { // as the kernel does for want of memory
		t.Fatal(err)
	}
	var found struct{ RestartCount int }
	testkit.Eventually(t, "a restart loop", func() bool {
		engine(t, m, "GET", "/containers/vllm-8000/json", nil, &found)
		return found.RestartCount >= 3
	})
	seen, diags := c.read(deploymentType, server)
	expect(t, diags, "WARNING: Server is not running", "keeps dying", "memory", "The next apply restarts it")
	if got := text(t, seen.state, "status"); got != "restart loop" {
		t.Errorf("status %q", got)
	}
	if err := m.SetFacts(func(f *machinefs.Facts) { f.VLLM.Fail = "" }); err != nil {
		t.Fatal(err)
	}
	server = c.change(deploymentType, seen, wanted)
	if got := text(t, server.state, "status"); got != "running" {
		t.Errorf("status %q", got)
	}
	if claims, err := w.servers(); err != nil || len(claims) != 1 {
		t.Errorf("servers: %v, %v", claims, err)
	}
}

// On a machine without Docker the server is a process: found, killed by hand, changed, and left alone by plans without a
// change.
func TestDeploymentAsProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *sandbox.Options) {
		for i := range o.Offers {
			o.Offers[i].Machine.VLLM.Installed = "0.33.0"
		}
	})
	c := w.configured(t, nil)
	session := c.create(sessionType, values{"name": "test", "offer_id": vastDouble})
	defer tidy(t, c, session)
	both := onSession(t, session, values{"process": values{}})
	server := c.create(deploymentType, both)
	if got := text(t, server.state, "server.runtime"); got != "process" {
		t.Errorf("runtime %q", got)
	}
	if err := w.serves(1)(nil); err != nil {
		t.Error(err)
	}
	// Two GPUs, and no configured number: both are used.
	if log := strings.Join(w.theMachine(t).CommandLog(), "\n"); !strings.Contains(log, "--tensor-parallel-size 2") {
		t.Errorf("not all GPUs are used:\n%s", log)
	}
	for name, same := range map[string]values{
		"runtime by its name": with(both, values{"runtime": "process"}),
		"only the process":    with(both, values{"container": nil}),
		"the same version":    with(both, values{"process": values{"version": "0.33.0", "install": "never"}}),
		"defaults by name":    with(both, values{"port": 8000, "exposure": "private", "trust_remote_code": false}),
	} {
		if p := c.plan(deploymentType, server, same); failed(p.Diagnostics) || !get(t, p.value, "id").IsKnown() {
			t.Errorf("%s takes another server: %s", name, list(p.Diagnostics))
		}
	}
	if p := c.plan(deploymentType, server, with(both, values{"runtime": "container"})); get(t, p.value, "id").IsKnown() {
		t.Error("another runtime takes no other server")
	}
	server = c.change(deploymentType, server, with(both, values{"max_model_len": 4096}))
	if seen, diags := c.read(deploymentType, server); len(diags) > 0 || !seen.state.Equal(server.state) {
		t.Errorf("a refresh changes something: %s", list(diags))
	}
	back, diags := c.apply(deploymentType, c.plan(deploymentType, server, with(both, values{"max_model_len": 200000})))
	expect(t, diags, "ERROR: ", "32768", "old server is running again and has answered")
	if seen, more := c.read(deploymentType, back); len(more) > 0 || !seen.state.Equal(back.state) {
		t.Errorf("a refresh changes something after the old server came back: %s", list(more))
	}
	if err := w.serves(1)(nil); err != nil {
		t.Error(err)
	}
	// A restarted process has a new ID, and is the same server.
	_, diags = c.invoke("shopper_restart_vllm", values{
		"ssh": login(t, session), "server": get(t, back.state, "server"), "model": qwen, "api_key": text(t, back.state, "api_key"),
	})
	expect(t, diags)
	again, diags := c.read(deploymentType, back)
	expect(t, diags)
	if text(t, again.state, "id") == text(t, back.state, "id") {
		t.Error("it wasn't restarted")
	}
	if p := c.plan(deploymentType, again, with(both, values{"max_model_len": 4096})); !p.value.Equal(again.state) {
		t.Error("a restart is drift")
	}
	gone, diags := c.destroy(deploymentType, again)
	expect(t, diags)
	if err := w.nothingServes(nil); err != nil || !gone.state.IsNull() {
		t.Errorf("left: %v", err)
	}
}

// Two deployments with the same port don't take over each other's server.
func TestDeploymentsOnOnePort(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	wanted := onSession(t, session, nil)
	first := c.create(deploymentType, wanted)
	made, diags := c.apply(deploymentType, c.plan(deploymentType, object{}, with(wanted, values{"max_model_len": 4096})))
	expect(t, diags, "ERROR: Another server has this name and port", "another port", "docker rm -f")
	if !made.state.IsNull() {
		t.Error("it is in state")
	}
	if seen, diags := c.read(deploymentType, first); len(diags) > 0 || !seen.state.Equal(first.state) {
		t.Errorf("the first was touched: %s", list(diags))
	}
	if err := w.serves(1)(nil); err != nil {
		t.Error(err)
	}
}
