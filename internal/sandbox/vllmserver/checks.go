package vllmserver

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	recorded "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// plan is what a run has found out about itself by the time its configuration
// has been accepted.
type plan struct {
	shape       shape
	model       string
	quant       string
	maxLen      int
	utilization float64
	tp, pp      int
	gpus        []int // indices on the machine, one for each worker
	weightsGiB  float64
	cacheGiB    float64 // per GPU, for the KV cache
	perTokenKiB float64 // per GPU
}

const gib = 1024.0 // in MiB

// configure reads the model's configuration and checks what can be checked
// before a GPU is touched, in vLLM's own order.
func (r *run) configure() error {
	facts := r.place.latest()
	p := &r.plan
	p.model = r.opts.model()
	p.utilization = r.opts.fraction("gpu-memory-utilization", 0.92)
	p.tp, p.pp = r.opts.number("tensor-parallel-size", 1), r.opts.number("pipeline-parallel-size", 1)
	if len(r.place.visible) == 0 {
		return fail(stageConfig, noGPUMessage)
	}
	if err := r.checkBounds(); err != nil {
		return err
	}
	if err := r.checkModel(facts.VLLM.AnyModel); err != nil {
		return err
	}
	p.shape = shapeOf(p.model)
	if err := r.checkQuantization(facts); err != nil {
		return err
	}
	if err := r.checkLength(); err != nil {
		return err
	}
	if p.shape.heads%p.tp != 0 {
		return invalid("VllmConfig", headsMessage(p.shape.heads, p.tp))
	}
	if world := p.tp * p.pp; world > len(r.place.visible) {
		return invalid("ParallelConfig", worldSizeMessage(world, len(r.place.visible)))
	}
	p.gpus = r.place.visible[:p.tp*p.pp]
	return nil
}

// invalid is a failure that pydantic reports for a configuration class.
func invalid(class, message string) error {
	before, _ := validation(class, "")
	return fail(stageConfig, message, before)
}

// checkBounds makes the checks that pydantic makes from the fields' types.
func (r *run) checkBounds() error {
	p := r.plan
	outside := func(class, field, problem, value string) error {
		return fail(stageConfig, fmt.Sprintf("  Input should be %s [type=value_error, input_value=%s]", problem, value),
			"pydantic_core._pydantic_core.ValidationError: 1 validation error for "+class, field)
	}
	value := strconv.FormatFloat(p.utilization, 'g', -1, 64)
	switch {
	case p.utilization <= 0:
		return outside("CacheConfig", "gpu_memory_utilization", "greater than 0", value)
	case p.utilization > 1:
		return outside("CacheConfig", "gpu_memory_utilization", "less than or equal to 1", value)
	case p.tp < 1:
		return outside("ParallelConfig", "tensor_parallel_size", "greater than or equal to 1", strconv.Itoa(p.tp))
	case p.pp < 1:
		return outside("ParallelConfig", "pipeline_parallel_size", "greater than or equal to 1", strconv.Itoa(p.pp))
	}
	return nil
}

// checkModel asks the hub for the model, as far as the stand-in plays the hub.
func (r *run) checkModel(anyModel bool) error {
	model, token := r.plan.model, r.place.env["HF_TOKEN"]
	if token == "" {
		token = r.opts.text("hf-token")
	}
	switch {
	case anyModel:
	case !exists(model):
		return fail(stageConfig, unknownModelMessage(model))
	case isGated(model) && (token == "" || strings.Contains(token, "bad") || strings.Contains(token, "noaccess")):
		return fail(stageConfig, gatedMessage(model), gatedLines(model, token)...)
	}
	if revision := r.opts.text("revision"); strings.Contains(revision, "nosuch") {
		return fail(stageConfig, unknownRevisionMessage(revision, model))
	}
	if needsRemoteCode(model) && !r.opts.on("trust-remote-code") {
		return invalid("ModelConfig", remoteCodeMessage(model))
	}
	if s := shapeOf(model); s.since != "" && !r.place.atLeast(s.since) {
		return invalid("ModelConfig", architectureMessage(s.arch))
	}
	return nil
}

func (r *run) checkQuantization(facts machinefs.Facts) error {
	p := &r.plan
	asked := r.opts.text("quantization")
	p.quant = quantMethod(p.model)
	if asked != "" && asked != "None" {
		_, known := quantisations[asked]
		switch {
		case !known:
			return invalid("ModelConfig", quantUnknownMessage(asked))
		case p.quant != "" && strings.TrimSuffix(asked, "_marlin") != p.quant:
			return invalid("ModelConfig", quantMismatchMessage(p.quant, asked))
		}
		p.quant = asked
	}
	perParam := 2.0
	if p.quant != "" {
		method := quantisations[p.quant]
		perParam = method.bytes
		if have := capability(facts.GPUs[r.place.visible[0]]); have < method.capability {
			return invalid("VllmConfig", quantCapabilityMessage(p.quant, method.capability, have))
		}
	}
	p.weightsGiB = p.shape.params * 1e9 * perParam / (1 << 30) / float64(p.tp*p.pp)
	return nil
}

func (r *run) checkLength() error {
	p := &r.plan
	p.maxLen = r.opts.number("max-model-len", p.shape.context)
	if p.maxLen <= 0 {
		p.maxLen = p.shape.context
	}
	if p.maxLen > p.shape.context && r.place.env["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] != "1" {
		return invalid("ModelConfig", maxLenMessage(p.maxLen, p.shape.context))
	}
	cacheBytes := 2.0
	if strings.HasPrefix(r.opts.text("kv-cache-dtype"), "fp8") {
		cacheBytes = 1
	}
	if p.shape.kvKiB > 0 {
		p.perTokenKiB = p.shape.kvKiB * cacheBytes / 2 / float64(p.pp)
		return nil
	}
	heads := max(1, float64(p.shape.kvHeads)/float64(p.tp))
	p.perTokenKiB = 2 * float64(p.shape.layers) * heads * float64(p.shape.headDim) * cacheBytes / 1024 / float64(p.pp)
	return nil
}

// openDevices checks the driver and the GPUs.
func (r *run) openDevices() error {
	facts := r.place.latest()
	if err := r.checkDriver(facts); err != nil {
		return err
	}
	for worker, index := range r.plan.gpus {
		gpu := facts.GPUs[index]
		if dtype := r.opts.text("dtype"); dtype == "bfloat16" && capability(gpu) < 80 {
			return fail(stageDevice, bfloat16Message(gpu.Name, gpu.ComputeCapability))
		}
		total := float64(gpu.MemoryMiB) / gib
		free := total - float64(r.heldMiB(facts, index))/gib
		if free < r.plan.utilization*total {
			return fail(stageDevice, freeMemoryMessage(worker, free, total, r.plan.utilization))
		}
	}
	return nil
}

// checkDriver refuses a driver that is older than the release's CUDA wants:
// releases after 0.20 are built for CUDA 13 and want R580.
func (r *run) checkDriver(facts machinefs.Facts) error {
	major := recorded.Numbers(facts.DriverVersion)[0] // 0 where the facts do not say
	if major == 0 || major >= 580 || !r.place.atLeast("0.20.1") {
		return nil
	}
	if r.place.env["VLLM_ENABLE_CUDA_COMPATIBILITY"] == "1" && major >= 535 {
		if strings.Contains(facts.GPUs[r.plan.gpus[0]].Name, "GeForce") {
			return fail(stageDevice, forwardCompatMessage)
		}
		return nil
	}
	return fail(stageDevice, driverTooOldMessage(cudaNumber(facts.CUDAVersion)))
}

// loadWeights checks that they fit the GPUs at all.
func (r *run) loadWeights() error {
	facts := r.place.latest()
	for worker, index := range r.plan.gpus {
		total := float64(facts.GPUs[index].MemoryMiB) / gib
		free := total - float64(r.heldMiB(facts, index))/gib
		if r.plan.weightsGiB > free-0.5 {
			return fail(stageWeights, outOfMemoryMessage(worker, total, 0.31))
		}
	}
	return r.claim(facts, func(float64) float64 { return r.plan.weightsGiB })
}

// sizeCache decides how much of the memory the KV cache gets.
func (r *run) sizeCache() error {
	facts := r.place.latest()
	p := &r.plan
	p.cacheGiB = 1e9
	for _, index := range p.gpus {
		total := float64(facts.GPUs[index].MemoryMiB) / gib
		activations := 1.2 + 0.02*p.weightsGiB
		p.cacheGiB = min(p.cacheGiB, total*p.utilization-p.weightsGiB-activations)
	}
	if p.cacheGiB <= 0 {
		return fail(stageCache, noCacheMessage)
	}
	need := p.perTokenKiB * float64(p.maxLen) / (1 << 20)
	if r.opts.text("max-model-len") == "auto" || r.opts.text("max-model-len") == "-1" {
		p.maxLen = min(p.maxLen, r.cacheTokens())
	} else if need > p.cacheGiB {
		return fail(stageCache, cacheTooSmallMessage(p.maxLen, need, p.cacheGiB, r.cacheTokens()))
	}
	return r.claim(facts, func(total float64) float64 { return total * p.utilization })
}

// cacheTokens is how many tokens the KV cache holds, in blocks of 16.
func (r *run) cacheTokens() int {
	return int(r.plan.cacheGiB*(1<<20)/r.plan.perTokenKiB) / 16 * 16
}

// heldMiB is the memory of a GPU that is not this run's.
func (r *run) heldMiB(facts machinefs.Facts, index int) int {
	held := facts.GPUs[index].HeldMiB
	if r.place.root == "" {
		return held
	}
	claims, err := r.place.root.Claims()
	if err != nil {
		return held
	}
	for _, claim := range claims {
		if claim.PID != os.Getpid() {
			held += claim.MiB[index]
		}
	}
	return held
}

// claim records the memory that the run now holds on each of its GPUs.
func (r *run) claim(facts machinefs.Facts, perGPU func(totalGiB float64) float64) error {
	if r.place.root == "" {
		return nil
	}
	c := machinefs.Claim{PID: os.Getpid(), Name: "VLLM::EngineCore", MiB: map[int]int{}}
	for _, index := range r.plan.gpus {
		c.MiB[index] = int(perGPU(float64(facts.GPUs[index].MemoryMiB)/gib) * gib)
	}
	return r.place.root.SetClaim(c)
}

// capability is a GPU's compute capability times ten: 8.6 is 86. A machine whose
// facts do not say it is taken for a current one.
func capability(gpu machinefs.GPU) int {
	f, err := strconv.ParseFloat(gpu.ComputeCapability, 64)
	if err != nil {
		return 90
	}
	return int(f*10 + 0.5)
}

// cudaNumber writes a CUDA version as CUDA's own functions do: 12.4 is 12040.
func cudaNumber(version string) int {
	major, minor, _ := strings.Cut(version, ".")
	a, _ := strconv.Atoi(major)
	b, _ := strconv.Atoi(minor)
	if a == 0 {
		return 12040
	}
	return a*1000 + b*10
}
