terraform {
  required_providers {
    shopper = {
      source  = "cloud-gpu-shopper/shopper"
      version = "~> 0.1"
    }
  }
}

# Nothing is rented, and the shopper receives no request. The key comes from SHOPPER_SSH_PRIVATE_KEY or the
# SSH agent.
provider "shopper" {
  ssh = {
    agent = var.use_agent
  }
}

variable "use_agent" {
  description = "Log in with the keys of the SSH agent."
  type        = bool
  default     = false
}

variable "machine" {
  description = "Your own machine, with an NVIDIA GPU and Docker."
  type = object({
    host     = string
    port     = optional(number, 22)
    user     = string
    host_key = optional(string)
  })
}

resource "shopper_vllm_deployment" "own" {
  ssh           = var.machine
  model         = "Qwen/Qwen2.5-7B-Instruct"
  max_model_len = 8192

  container = {
    image = "vllm/vllm-openai:v0.33.0"
  }
}

# Fails the run if the model doesn't answer; a check block would only warn.
data "shopper_vllm_health" "own" {
  ssh      = var.machine
  base_url = shopper_vllm_deployment.own.base_url
  api_key  = shopper_vllm_deployment.own.api_key
  server   = shopper_vllm_deployment.own.server

  lifecycle {
    postcondition {
      condition     = self.healthy
      error_message = "Unhealthy: ${join("; ", self.failures)}"
    }
  }
}

output "tunnel_command" {
  value = shopper_vllm_deployment.own.tunnel_command
}

output "gpus" {
  value = data.shopper_vllm_health.own.checks.gpus.devices[*].name
}
