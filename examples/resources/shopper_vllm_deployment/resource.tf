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
