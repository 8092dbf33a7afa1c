terraform {
  required_providers {
    shopper = {
      source  = "cloud-gpu-shopper/shopper"
      version = "~> 0.1"
    }
  }
}

provider "shopper" {}

# The GPU must have the memory that the model needs, with some reserve.
locals {
  model   = "Qwen/Qwen2.5-7B-Instruct"
  context = 16384
  needs   = provider::shopper::estimate_vram(local.model, { context_length = local.context })
}

module "qwen" {
  source = "../modules/vllm-service"

  name          = "qwen"
  model         = local.model
  max_model_len = local.context

  requirements = {
    gpu_count          = 1
    min_vram_gb        = ceil(local.needs.per_gpu_gib * 1.1)
    max_price_per_hour = 2.5
    clouds             = ["vastai"]
    min_cuda_version   = 13 # what the newest vLLM is built with
  }
}

output "endpoint" {
  value     = one(values(module.qwen.endpoints))
  sensitive = true
}

output "healthy" {
  value = module.qwen.healthy
}
