locals {
  # A well-known model by its ID, with a context of 16,384 tokens, on two GPUs.
  llama = provider::shopper::estimate_vram("meta-llama/Llama-3.3-70B-Instruct", {
    context_length       = 16384
    tensor_parallel_size = 2
    quantization         = "fp8"
    gpu_vram_gib         = 48
  })

  # Any other model by the values of its config.json.
  other = provider::shopper::estimate_vram("", {
    parameters     = 8.5
    layers         = 36
    kv_heads       = 8
    head_dim       = 128
    context_length = 32768
  })
}

output "llama" {
  value = "${local.llama.per_gpu_gib} GiB on each GPU; ${local.llama.fits ? "fits" : "does not fit"} an L40S"
}

output "min_vram_gb" {
  value = local.other.min_vram_gb
}
