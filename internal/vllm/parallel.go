package vllm

import (
	"fmt"
	"strconv"
	"strings"
)

// SharesEvenly reports whether vLLM starts the model on that many tensor-parallel GPUs. vLLM has two rules, the same in 0.8.5,
// 0.19.1 and 0.33.0: the number of attention heads must be divisible by the size (vllm/config/model.py,
// verify_with_parallel_config), and of the size and the number of key-value heads one must be divisible by the other
// (vllm/model_executor/layers/linear.py, QKVParallelLinear). Latent attention has one latent for all heads, so only the first
// applies. Unknown figures (0) break no rule.
func (s ModelShape) SharesEvenly(size int) bool {
	if size < 1 || s.AttentionHeads%size != 0 {
		return false
	}
	return s.LatentDim > 0 || s.KVHeads <= 0 || s.KVHeads%size == 0 || size%s.KVHeads == 0
}

// LargestTensorParallel returns the largest power of two, up to that many GPUs, that SharesEvenly accepts. Powers of two only:
// layers, experts and quantization groups must be divisible too, and their sizes are multiples of
// powers of two. The zero shape stands for a model whose figures aren't known.
func LargestTensorParallel(shape ModelShape, gpus int) int {
	size := 1
	for next := 2; next <= gpus; next *= 2 {
		if shape.SharesEvenly(next) {
			size = next
		}
	}
	return size
}

// heads returns the model's numbers of heads, in words.
func (s ModelShape) heads() string {
	text := fmt.Sprintf("%d attention heads", s.AttentionHeads)
	if s.LatentDim > 0 || s.KVHeads <= 0 {
		return text
	}
	return fmt.Sprintf("%s and %d key-value heads", text, s.KVHeads)
}

// checkTensorParallel checks a size for a model whose heads are known; the problem lists the accepted sizes.
func (p *problems) checkTensorParallel(shape ModelShape, size int) {
	if size < 1 || shape.AttentionHeads < 1 || shape.AttentionHeads > mostHeads || shape.SharesEvenly(size) {
		return
	}
	accepted := alternatives(shape.AttentionHeads, shape.SharesEvenly)
	p.addf("tensor_parallel_size", "must split the model's %s evenly: %s; got %d", shape.heads(), accepted, size)
}

// alternatives lists the accepted numbers from 1 to most in words: "1, 2, 4 or 28".
func alternatives(most int, accept func(int) bool) string {
	var texts []string
	for number := 1; number <= most; number++ {
		if accept(number) {
			texts = append(texts, strconv.Itoa(number))
		}
	}
	last := len(texts) - 1
	if last < 1 {
		return strings.Join(texts, "")
	}
	return strings.Join(texts[:last], ", ") + " or " + texts[last]
}
