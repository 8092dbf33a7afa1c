# Leaves no secret in state or plan. The provider logs in with your own key, from SHOPPER_SSH_PRIVATE_KEY or
# an agent.
variable "public_key" {
  description = "Public half of your SSH key."
  type        = string
}

variable "api_key" {
  description = "Key that clients must present."
  type        = string
  sensitive   = true
  ephemeral   = true
}

variable "hf_token" {
  description = "Hugging Face token, for a model whose terms must be accepted."
  type        = string
  sensitive   = true
  ephemeral   = true
}

resource "shopper_gpu_session" "llama" {
  name = "llama"
  requirements = {
    min_vram_gb        = 40
    max_price_per_hour = 1.5
    clouds             = ["vastai"]
    min_cuda_version   = 13 # what the newest vLLM is built with
  }
  authorized_keys    = [var.public_key]
  retain_private_key = false # the one-time key leaves the machine and state
}

resource "shopper_vllm_deployment" "llama" {
  session_id = shopper_gpu_session.llama.id
  ssh        = shopper_gpu_session.llama.ssh

  model             = "meta-llama/Llama-3.1-8B-Instruct"
  served_model_name = "llama"
  max_model_len     = 16384

  api_key_wo          = var.api_key
  api_key_wo_version  = 1
  hf_token_wo         = var.hf_token
  hf_token_wo_version = 1

  process = {} # installs vLLM and what it takes: Vast.ai's machines have no Docker
}

# Queried in every plan and apply; neither its key nor its answer is stored.
ephemeral "shopper_vllm_health" "llama" {
  ssh      = shopper_vllm_deployment.llama.ssh
  base_url = shopper_vllm_deployment.llama.base_url
  server   = shopper_vllm_deployment.llama.server
  api_key  = var.api_key
}

check "llama" {
  assert {
    condition     = ephemeral.shopper_vllm_health.llama.healthy
    error_message = "Unhealthy; the data source shopper_vllm_logs reads the server's log."
  }
}

# Run it on your computer to forward the server's port.
output "tunnel_command" {
  value = shopper_vllm_deployment.llama.tunnel_command
}

# On your own machine with Docker and NVIDIA's container toolkit.
resource "shopper_vllm_deployment" "own" {
  ssh       = { host = "gpu.example.com", user = "ubuntu" }
  model     = "Qwen/Qwen2.5-7B-Instruct"
  container = { image = "vllm/vllm-openai:v0.33.0" }
}

# Open to other machines, over HTTPS with a generated certificate. On Vast.ai machines only SSH is reachable.
resource "shopper_gpu_session" "public" {
  name         = "public"
  requirements = { clouds = ["bluelobster"], min_vram_gb = 24 }
}

resource "shopper_vllm_deployment" "public" {
  session_id = shopper_gpu_session.public.id
  ssh        = shopper_gpu_session.public.ssh
  model      = "Qwen/Qwen2.5-7B-Instruct"
  process    = {}
  exposure   = "public"
  tls        = {}
}

output "public" {
  value = {
    base_url       = shopper_vllm_deployment.public.base_url
    ca_certificate = shopper_vllm_deployment.public.ca_certificate
  }
}
