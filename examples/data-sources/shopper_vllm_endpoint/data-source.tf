# A deployment, queried through its machine, because it listens on the loopback address there.
resource "shopper_gpu_session" "qwen" {
  name         = "qwen"
  requirements = { min_vram_gb = 24, clouds = ["vastai"], min_cuda_version = 13 }
}

resource "shopper_vllm_deployment" "qwen" {
  session_id = shopper_gpu_session.qwen.id
  ssh        = shopper_gpu_session.qwen.ssh
  model      = "Qwen/Qwen2.5-7B-Instruct"
  process    = {}
}

data "shopper_vllm_endpoint" "qwen" {
  ssh      = shopper_gpu_session.qwen.ssh
  base_url = shopper_vllm_deployment.qwen.base_url
  api_key  = shopper_vllm_deployment.qwen.api_key
}

output "qwen" {
  value = {
    model          = data.shopper_vllm_endpoint.qwen.model
    context_length = data.shopper_vllm_endpoint.qwen.context_length
    vllm_version   = data.shopper_vllm_endpoint.qwen.vllm_version
  }
}

# Any server with an OpenAI API like vLLM's.
data "shopper_vllm_endpoint" "gateway" {
  base_url = "https://llm.example.org/v1"
}

output "gateway" {
  value = {
    ready   = data.shopper_vllm_endpoint.gateway.ready
    problem = data.shopper_vllm_endpoint.gateway.problem
    models  = data.shopper_vllm_endpoint.gateway.models[*].id
  }
}
