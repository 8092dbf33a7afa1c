package lifecycle

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// usable are the GPUs that the server will see: those that the container is given, and of them those that
// CUDA_VISIBLE_DEVICES names.
func (s *survey) usable(gpus []deploy.GPU) []deploy.GPU {
	if s.request.Runtime != deploy.Process {
		gpus = s.request.Container.Given(gpus)
	}
	if list, set := s.request.Spec.Env[visibleDevices]; set {
		return visible(gpus, list)
	}
	return gpus
}

// visibleDevices is the variable by which CUDA hides GPUs from a program.
const visibleDevices = "CUDA_VISIBLE_DEVICES"

// visible are the GPUs that CUDA shows a program with that list, as CUDA's programming guide says: indices, counted among
// the GPUs that there are, or UUIDs, of which a beginning suffices; the first name that is none ends the list. Parts of
// a GPU (MIG) aren't told apart.
func visible(gpus []deploy.GPU, list string) []deploy.GPU {
	if strings.Contains(list, "MIG-") {
		return gpus
	}
	var chosen []deploy.GPU
	for name := range strings.SplitSeq(list, ",") {
		position := named(gpus, strings.TrimSpace(name))
		if position < 0 {
			break
		}
		chosen = append(chosen, gpus[position])
	}
	return chosen
}

// named is the position of the GPU with that index or beginning of a UUID, -1 for none.
func named(gpus []deploy.GPU, name string) int {
	if position, err := strconv.Atoi(name); err == nil && position >= 0 && position < len(gpus) {
		return position
	}
	for i, gpu := range gpus {
		if strings.HasPrefix(name, "GPU-") && strings.HasPrefix(gpu.UUID, name) {
			return i
		}
	}
	return -1
}

// useAllGPUs spreads the model over as many GPUs as vLLM can share it among, when the request doesn't say how many.
func (s *survey) useAllGPUs() {
	spec := &s.request.Spec
	if spec.TensorParallelSize != 0 || len(s.gpus) < 2 || s.replicates() {
		return
	}
	shape, _ := vllm.Lookup(spec.Model)
	if size := vllm.LargestTensorParallel(shape, len(s.gpus)/max(1, spec.PipelineParallelSize)); size > 1 {
		spec.TensorParallelSize = size
	}
}

// replicates tells whether the user's own flags spread replicas of the model over GPUs.
func (s *survey) replicates() bool { return s.hasFlag("--data-parallel-size", "-dp") }

// judgeIdle tells about GPUs that are paid for and not used, and what would use them.
func (s *survey) judgeIdle() []deploy.Finding {
	used, all := s.gpusNeeded(), len(s.gpus)
	if !s.wantsGPUs() || used >= all || s.replicates() {
		return nil
	}
	spec := s.request.Spec
	shape, _ := vllm.Lookup(spec.Model)
	size := vllm.LargestTensorParallel(shape, all)
	for all%size != 0 {
		size /= 2
	}
	// Where none of it fits, a smaller machine is the way.
	way := fmt.Sprintf("Rent a machine with %d, or use all: tensor_parallel_size = %d with pipeline_parallel_size = %d, or,"+
		" where one GPU's share fits, %d replicas (args = [\"--data-parallel-size\", \"%d\"] with tensor_parallel_size = %d).",
		used, size, all/size, all/size, all/size, size)
	if size == all {
		way = fmt.Sprintf("Rent a machine with %d, or set tensor_parallel_size = %d.", used, size)
	}
	return one(deploy.Warning, codeGPUsIdle, fmt.Sprintf("%d of %d GPUs stay idle: tensor_parallel_size times pipeline_parallel_size is %d.",
		all-used, all, used), way+" Hide them with "+visibleDevices+" in env if they are for something else.")
}
