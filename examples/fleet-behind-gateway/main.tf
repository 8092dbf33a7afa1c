terraform {
  required_providers {
    shopper = {
      source  = "cloud-gpu-shopper/shopper"
      version = "~> 0.1"
    }
  }
}

provider "shopper" {
  # Limit for the total price of all replicas. A replica that would exceed it is not rented.
  budget = {
    max_price_per_hour = 4
  }
}

variable "replicas" {
  description = "Number of machines that serve the model."
  type        = number
  default     = 2
}

variable "gateway_public_key" {
  description = "Public SSH key of the gateway's host, which logs in with it to open the tunnels."
  type        = string
  default     = null
}

module "qwen" {
  source = "../modules/vllm-service"

  name              = "fleet"
  model             = "Qwen/Qwen2.5-7B-Instruct"
  served_model_name = "qwen"
  max_model_len     = 8192
  replicas          = var.replicas
  first_local_port  = 18001
  authorized_keys   = var.gateway_public_key == null ? null : [var.gateway_public_key]

  requirements = {
    gpu_count          = 1
    min_vram_gb        = 24
    max_price_per_hour = 1.5
    clouds             = ["vastai"]
    min_cuda_version   = 13 # what the newest vLLM is built with
  }
}

# Configuration of a LiteLLM proxy that distributes requests among the replicas. The servers listen on their
# machines' loopback addresses. The gateway's host forwards each one to a separate port through SSH: fleet-1 to
# 18001, fleet-2 to 18002, independent of the others.
output "gateway_config" {
  description = "terraform output -raw gateway_config > config.yaml"
  sensitive   = true
  value = yamlencode({
    model_list = [
      for endpoint in values(module.qwen.endpoints) : {
        model_name = module.qwen.model
        litellm_params = {
          model    = "hosted_vllm/${module.qwen.model}"
          api_base = "http://127.0.0.1:${endpoint.local_port}/v1"
          api_key  = endpoint.api_key
        }
      }
    ]
    router_settings = {
      routing_strategy = "least-busy"
    }
  })
}

output "tunnels" {
  description = "Commands to keep running on the gateway's host, one for each replica."
  sensitive   = true
  value       = values(module.qwen.endpoints)[*].tunnel_command
}

output "price_per_hour" {
  value = module.qwen.price_per_hour
}

output "healthy" {
  value = module.qwen.healthy
}
