terraform {
  # Write-only arguments and ephemeral variables.
  required_version = ">= 1.11.0"

  required_providers {
    shopper = {
      source  = "cloud-gpu-shopper/shopper"
      version = "~> 0.1"
    }
  }
}

# Logs in with your own key from SHOPPER_SSH_PRIVATE_KEY, or with the SSH agent's keys.
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

variable "public_key" {
  description = "The public key of the key above."
  type        = string
}

variable "api_key" {
  description = "Key that clients must present. It is not stored anywhere."
  type        = string
  ephemeral   = true
  sensitive   = true
}

variable "api_key_version" {
  description = "Version of the key. Change it to apply a new key."
  type        = number
  default     = 1
}

resource "shopper_gpu_session" "private" {
  name = "private"

  requirements = {
    min_vram_gb        = 24
    max_price_per_hour = 2.5
    clouds             = ["vastai"]
    min_cuda_version   = 13 # what the newest vLLM is built with
  }

  # The one-time key is removed from the machine and from state once a login with your key has worked.
  authorized_keys    = [var.public_key]
  retain_private_key = false
}

resource "shopper_vllm_deployment" "private" {
  session_id = shopper_gpu_session.private.id
  ssh        = shopper_gpu_session.private.ssh

  model         = "Qwen/Qwen2.5-7B-Instruct"
  max_model_len = 8192

  api_key_wo         = var.api_key
  api_key_wo_version = var.api_key_version

  process = {} # installs vLLM and what it takes: Vast.ai's machines have no Docker
}

# Uses the key directly, because it is not stored anywhere.
ephemeral "shopper_vllm_health" "private" {
  ssh      = shopper_vllm_deployment.private.ssh
  base_url = shopper_vllm_deployment.private.base_url
  server   = shopper_vllm_deployment.private.server
  api_key  = var.api_key
}

# A warning that names no ephemeral value, which no CLI would show. It stops nothing.
check "healthy" {
  assert {
    condition     = ephemeral.shopper_vllm_health.private.healthy
    error_message = "Unhealthy; the data source shopper_vllm_logs reads the server's log."
  }
}

output "tunnel_command" {
  value = shopper_vllm_deployment.private.tunnel_command
}
