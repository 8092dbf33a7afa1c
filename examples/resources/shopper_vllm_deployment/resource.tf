resource "shopper_gpu_session" "llama" {
  name = "llama"
  requirements = {
    min_vram_gb        = 40
    max_price_per_hour = 1.5
    clouds             = ["bluelobster"]
  }
}

variable "hf_token" {
  description = "Hugging Face token, for a model whose terms have to be accepted."
  type        = string
  sensitive   = true
}

resource "shopper_vllm_deployment" "llama" {
  session_id = shopper_gpu_session.llama.id
  ssh        = shopper_gpu_session.llama.ssh

  model             = "meta-llama/Llama-3.1-8B-Instruct"
  served_model_name = "llama"
  max_model_len     = 16384

  # Write-only: neither in state nor in a plan.
  hf_token_wo         = var.hf_token
  hf_token_wo_version = 1

  container = {
    image = "vllm/vllm-openai:v0.33.0"
  }
}

# On your own machine: opens the server's port there.
output "tunnel_command" {
  value = shopper_vllm_deployment.llama.tunnel_command
}

# On a machine without Docker, such as Vast.ai's, vLLM runs as a process.
resource "shopper_gpu_session" "qwen" {
  name         = "qwen"
  requirements = { clouds = ["vastai"], min_vram_gb = 24, max_price_per_hour = 0.6 }
}

resource "shopper_vllm_deployment" "qwen" {
  session_id = shopper_gpu_session.qwen.id
  ssh        = shopper_gpu_session.qwen.ssh
  model      = "Qwen/Qwen2.5-7B-Instruct"
  process    = { version = "0.33.0" }
}

# Open to other machines, over HTTPS with a certificate that the provider makes.
resource "shopper_gpu_session" "public" {
  name         = "public"
  requirements = { clouds = ["bluelobster"], min_vram_gb = 24 }
}

resource "shopper_vllm_deployment" "public" {
  session_id = shopper_gpu_session.public.id
  ssh        = shopper_gpu_session.public.ssh
  model      = "Qwen/Qwen2.5-7B-Instruct"
  container  = { image = "vllm/vllm-openai:v0.33.0" }
  exposure   = "public"
  tls        = {}
}

output "public" {
  value = {
    base_url       = shopper_vllm_deployment.public.base_url
    ca_certificate = shopper_vllm_deployment.public.ca_certificate
  }
}
