terraform {
  required_providers {
    shopper = {
      source  = "cloud-gpu-shopper/shopper"
      version = "~> 0.1"
    }
  }
}

# Reads SHOPPER_URL; without it, a shopper at http://localhost:8080.
provider "shopper" {}

# The cheapest matching machine, for one hour.
resource "shopper_gpu_session" "quickstart" {
  name              = "quickstart"
  reservation_hours = 1

  requirements = {
    gpu_count          = 1
    min_vram_gb        = 24
    max_price_per_hour = 2.5
    clouds             = ["vastai"]
    min_cuda_version   = 13 # what the newest vLLM is built with
  }
}

# A model on that machine. The apply is done when the model has answered.
resource "shopper_vllm_deployment" "quickstart" {
  session_id = shopper_gpu_session.quickstart.id
  ssh        = shopper_gpu_session.quickstart.ssh

  model         = "Qwen/Qwen2.5-7B-Instruct"
  max_model_len = 8192

  process = {} # installs vLLM and what it takes: Vast.ai's machines have no Docker
}

data "shopper_vllm_endpoint" "quickstart" {
  base_url = shopper_vllm_deployment.quickstart.base_url
  ssh      = shopper_gpu_session.quickstart.ssh
  api_key  = shopper_vllm_deployment.quickstart.api_key
}

data "shopper_vllm_health" "quickstart" {
  base_url = shopper_vllm_deployment.quickstart.base_url
  ssh      = shopper_gpu_session.quickstart.ssh
  api_key  = shopper_vllm_deployment.quickstart.api_key
  server   = shopper_vllm_deployment.quickstart.server
}
