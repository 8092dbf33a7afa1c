# An example of your own module: a model on a rented machine. Its tests are in tests/.
terraform {
  required_providers {
    shopper = {
      source  = "cloud-gpu-shopper/shopper"
      version = "~> 0.1"
    }
  }
}

variable "name" {
  description = "Name of the machine, unique among the sessions of its consumer_id."
  type        = string
}

variable "model" {
  description = "Hugging Face ID of the model to serve."
  type        = string
  default     = "Qwen/Qwen2.5-7B-Instruct"
}

variable "max_model_len" {
  description = "Context length, in tokens."
  type        = number
  default     = 8192
}

variable "max_price_per_hour" {
  description = "Maximum price of the machine, in USD per hour."
  type        = number
  default     = 2

  validation {
    condition     = var.max_price_per_hour > 0 && var.max_price_per_hour <= 5
    error_message = "A machine of this module costs at most 5 USD per hour."
  }
}

resource "shopper_gpu_session" "this" {
  name              = var.name
  reservation_hours = 1

  requirements = {
    min_vram_gb        = 24
    max_price_per_hour = var.max_price_per_hour
    clouds             = ["vastai"]
    min_cuda_version   = 13 # what the newest vLLM is built with
  }
}

resource "shopper_vllm_deployment" "this" {
  session_id = shopper_gpu_session.this.id
  ssh        = shopper_gpu_session.this.ssh

  model         = var.model
  max_model_len = var.max_model_len

  process = {} # installs vLLM and what it takes: Vast.ai's machines have no Docker
}

data "shopper_vllm_health" "this" {
  base_url = shopper_vllm_deployment.this.base_url
  ssh      = shopper_gpu_session.this.ssh
  api_key  = shopper_vllm_deployment.this.api_key
  server   = shopper_vllm_deployment.this.server
}

output "base_url" {
  description = "The API's address on the machine."
  value       = shopper_vllm_deployment.this.base_url
}

output "tunnel_command" {
  description = "Command that forwards the API's port to your computer."
  value       = shopper_vllm_deployment.this.tunnel_command
}

output "offer_id" {
  description = "The rented machine."
  value       = shopper_gpu_session.this.offer_id
}

output "price_per_hour" {
  description = "Price of the machine, in USD per hour."
  value       = shopper_gpu_session.this.price_per_hour
}

output "healthy" {
  description = "Whether the machine, the server and the model passed every check."
  value       = data.shopper_vllm_health.this.healthy
}
