terraform {
  required_providers {
    shopper = {
      source  = "cloud-gpu-shopper/shopper"
      version = "~> 0.1"
    }
  }
}

# Nothing is rented: the shopper is never asked for anything. The key comes from
# SHOPPER_SSH_PRIVATE_KEY or the SSH agent.
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
  description = "A machine of your own, with an NVIDIA GPU and Docker."
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

# Stops the run when the model doesn't answer, where a check block only warns.
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
