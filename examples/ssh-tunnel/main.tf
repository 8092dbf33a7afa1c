terraform {
  # Required for ephemeral resources; with OpenTofu 1.11.
  required_version = ">= 1.10.0"

  required_providers {
    shopper = {
      source  = "cloud-gpu-shopper/shopper"
      version = "~> 0.1"
    }
    http = {
      source  = "hashicorp/http"
      version = "~> 3.4"
    }
  }
}

provider "shopper" {}

resource "shopper_gpu_session" "qwen" {
  name = "tunnelled"

  requirements = {
    min_vram_gb        = 24
    max_price_per_hour = 2.5
    clouds             = ["vastai"]
    min_cuda_version   = 13 # what the newest vLLM is built with
  }
}

resource "shopper_vllm_deployment" "qwen" {
  session_id    = shopper_gpu_session.qwen.id
  ssh           = shopper_gpu_session.qwen.ssh
  model         = "Qwen/Qwen2.5-7B-Instruct"
  max_model_len = 8192

  process = {} # installs vLLM and what it takes: Vast.ai's machines have no Docker
}

variable "port" {
  description = "A free port on this computer."
  type        = number
  default     = 18000
}

# Open for the duration of the run, on a port of this computer's loopback address.
ephemeral "shopper_ssh_tunnel" "qwen" {
  ssh         = shopper_gpu_session.qwen.ssh
  remote_port = 8000
  local_port  = var.port

  # Nothing listens on it before.
  depends_on = [shopper_vllm_deployment.qwen]
}

# Another provider, through the tunnel. A data source stores its arguments, so it can't use the tunnel's
# ephemeral address. Both use the same fixed port instead, and depends_on keeps the tunnel open until the
# data source has been read.
data "http" "models" {
  url = "http://127.0.0.1:${var.port}/v1/models"

  request_headers = {
    Authorization = "Bearer ${shopper_vllm_deployment.qwen.api_key}"
  }

  depends_on = [ephemeral.shopper_ssh_tunnel.qwen]
}

output "models" {
  value = [for model in jsondecode(data.http.models.response_body).data : model.id]
}
