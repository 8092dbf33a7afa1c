# Any server that speaks the OpenAI API as vLLM does; with ssh, one that only its own machine can reach.
data "shopper_vllm_endpoint" "gateway" {
  base_url = "https://llm.example.org/v1"
}

output "served" {
  value = {
    ready  = data.shopper_vllm_endpoint.gateway.ready
    models = data.shopper_vllm_endpoint.gateway.models
  }
}
