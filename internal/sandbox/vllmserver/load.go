package vllmserver

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// defaultLoad is how long a start takes in real time where the facts do not say.
const defaultLoad = 90 * time.Second

// run is one server, from its arguments to its end.
type run struct {
	opts  options
	place *place
	log   *logger
	plan  plan
}

// phase is a part of a start: its share of the whole in percent, what is checked
// when it has passed, and what is logged then.
type phase struct {
	stage stage
	share int
	check func() error
	tell  func(took time.Duration)
}

// start goes through the phases of a start until the server could listen.
func (r *run) start(ctx context.Context) error {
	facts := r.place.latest()
	load := facts.VLLM.Load
	if load <= 0 {
		load = defaultLoad
	}
	for _, phase := range r.phases() {
		took := load * time.Duration(phase.share) / 100
		if err := r.place.sleep(ctx, facts.Scale(took)); err != nil {
			return err
		}
		if err := r.demanded(phase.stage); err != nil {
			return err
		}
		if err := phase.check(); err != nil {
			return err
		}
		phase.tell(took)
	}
	return nil
}

func (r *run) phases() []phase {
	return []phase{
		{stageConfig, 8, r.configure, r.tellConfig},
		{stageBind, 1, r.checkPort, func(time.Duration) {}},
		{stageDevice, 8, r.openDevices, r.tellDevices},
		{stageWeights, 50, r.loadWeights, r.tellWeights},
		{stageCache, 25, r.sizeCache, r.tellCache},
		{-1, 8, func() error { return nil }, r.tellEngine},
	}
}

// checkPort finds out early whether the port is taken: a real server binds it
// before the engine starts and listens on it when the engine is ready.
func (r *run) checkPort() error {
	if r.opts.text("uds") != "" {
		return nil
	}
	listener, err := r.place.listen(context.Background(), r.opts.text("host"), r.opts.number("port", 8000))
	if err != nil {
		return bindError(err)
	}
	return listener.Close()
}

func bindError(err error) error {
	switch {
	case addressInUse(err):
		return fail(stageBind, portInUseMessage)
	case err == errCannotAssign: //nolint:errorlint // it is never wrapped
		return fail(stageBind, "OSError: [Errno 99] Cannot assign requested address")
	}
	return fail(stageBind, "OSError: "+err.Error())
}

func (r *run) tellConfig(time.Duration) {
	p := r.plan
	r.log.api("model.py:637", "Resolved architecture: %s", p.shape.arch)
	if facts := r.place.latest(); capability(facts.GPUs[p.gpus[0]]) < 80 && r.opts.text("dtype") != "bfloat16" && p.quant == "" {
		gpu := facts.GPUs[p.gpus[0]]
		r.log.apiWarning("model.py:2013", "Your device '%s' (with compute capability %s) doesn't support torch.bfloat16. Falling back to torch.float16 for compatibility.", gpu.Name, gpu.ComputeCapability)
	}
	r.log.api("model.py:1750", "Using max model len %d", p.maxLen)
	r.log.api("scheduler.py:207", "Chunked prefill is enabled with max_num_batched_tokens=%d.", r.opts.number("max-num-batched-tokens", 2048))
}

func (r *run) tellDevices(time.Duration) {
	p := r.plan
	r.log.core("core.py:93", "Initializing a V1 LLM engine (v%s) with config: model=%s, speculative_config=None, tokenizer=%s, dtype=torch.bfloat16, max_seq_len=%d, tensor_parallel_size=%d, pipeline_parallel_size=%d, quantization=%s, served_model_name=%s",
		r.place.version, pyRepr(p.model), pyRepr(p.model), p.maxLen, p.tp, p.pp, orNone(p.quant), r.opts.servedNames()[0])
	r.log.core("parallel_state.py:1208", "world_size=%d rank=0 local_rank=0 distributed_init_method=tcp://172.17.0.2:43971 backend=nccl", p.tp*p.pp)
	r.log.core("parallel_state.py:1394", "rank 0 in world size %d is assigned as DP rank 0, PP rank 0, TP rank 0, EP rank 0", p.tp*p.pp)
	r.log.core("gpu_model_runner.py:3259", "Starting to load model %s...", p.model)
}

func (r *run) tellWeights(took time.Duration) {
	seconds := took.Seconds()
	r.log.core("weight_utils.py:441", "Time spent downloading weights for %s: %.6f seconds", r.plan.model, seconds*0.7)
	r.log.core("default_loader.py:314", "Loading weights took %.2f seconds", seconds*0.3)
	r.log.core("gpu_model_runner.py:3338", "Model loading took %.4f GiB memory and %.6f seconds", r.plan.weightsGiB, seconds)
}

func (r *run) tellCache(took time.Duration) {
	p, seconds := r.plan, took.Seconds()
	if !r.opts.on("enforce-eager") {
		r.log.core("backends.py:631", "Using cache directory: /root/.cache/vllm/torch_compile_cache/2b70b500a6/rank_0_0/backbone for vLLM's torch.compile")
		r.log.core("backends.py:647", "Dynamo bytecode transform time: %.2f s", seconds*0.3)
		r.log.core("monitor.py:34", "torch.compile takes %.2f s in total", seconds*0.8)
		r.log.core("monitor.py:48", "torch.compile took %.2f s in total", seconds*0.8)
	}
	r.log.core("gpu_worker.py:359", "Available KV cache memory: %.2f GiB", p.cacheGiB)
	tokens := r.cacheTokens()
	r.log.core("kv_cache_utils.py:1229", "GPU KV cache size: %s tokens", grouped(tokens))
	r.log.core("kv_cache_utils.py:1234", "Maximum concurrency for %s tokens per request: %.2fx", grouped(p.maxLen), float64(tokens)/float64(p.maxLen))
}

func (r *run) tellEngine(took time.Duration) {
	if !r.opts.on("enforce-eager") {
		r.log.core("gpu_model_runner.py:4244", "Graph capturing finished in %.0f secs, took 0.62 GiB", took.Seconds()/2)
	}
	r.log.core("core.py:250", "init engine (profile, create kv cache, warmup model) took %.2f seconds", took.Seconds())
	r.log.api("api_server.py:1725", "Supported tasks: ['generate']")
}

func orNone(s string) string {
	if s == "" {
		return "None"
	}
	return s
}

// grouped writes a number as Python's {:,} does.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// url is the address that the server says it listens on.
func (r *run) url() string {
	if path := r.opts.text("uds"); path != "" {
		return "unix:" + path
	}
	host := r.opts.text("host")
	if host == "" {
		host = "0.0.0.0"
	}
	scheme := "http"
	if r.opts.text("ssl-certfile") != "" {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s:%d", scheme, host, r.opts.number("port", 8000))
}
