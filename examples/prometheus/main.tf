terraform {
  required_providers {
    shopper = {
      source  = "cloud-gpu-shopper/shopper"
      version = "~> 0.1"
    }
  }
}

provider "shopper" {}

variable "port" {
  description = "The public server's port."
  type        = number
  default     = 8443
}

# One server of each kind. On Vast.ai machines only SSH is reachable.
resource "shopper_gpu_session" "qwen" {
  for_each = { private = "vastai", public = "bluelobster" }

  name = each.key

  requirements = {
    min_vram_gb        = 24
    max_price_per_hour = 1
    clouds             = [each.value]
  }
}

resource "shopper_vllm_deployment" "private" {
  session_id    = shopper_gpu_session.qwen["private"].id
  ssh           = shopper_gpu_session.qwen["private"].ssh
  model         = "Qwen/Qwen2.5-7B-Instruct"
  max_model_len = 8192
  process       = {}
}

resource "shopper_vllm_deployment" "public" {
  session_id    = shopper_gpu_session.qwen["public"].id
  ssh           = shopper_gpu_session.qwen["public"].ssh
  model         = "Qwen/Qwen2.5-7B-Instruct"
  max_model_len = 8192
  process       = {}
  exposure      = "public"
  port          = var.port
  tls           = {}
}

# vLLM requires no API key at /metrics. The certificate of `tls = {}` is renewed with the server: after that
# apply, write this file again.
output "prometheus_yml" {
  description = "terraform output -raw prometheus_yml >prometheus.yml"
  value = yamlencode({
    scrape_configs = [
      {
        job_name       = "vllm-public"
        scheme         = "https"
        tls_config     = { ca = shopper_vllm_deployment.public.ca_certificate } # from Prometheus 2.48; before, a ca_file
        static_configs = [{ targets = [split("/", shopper_vllm_deployment.public.base_url)[2]] }]
      },
      {
        job_name       = "vllm-private"
        static_configs = [{ targets = ["127.0.0.1:${shopper_vllm_deployment.private.port}"] }] # the tunnel
      },
    ]
  })
}

output "tunnel_command" {
  description = "Command to keep running on the Prometheus host, with -i and the session's private key."
  value       = shopper_vllm_deployment.private.tunnel_command
}
