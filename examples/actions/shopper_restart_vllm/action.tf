variable "ssh" {
  description = "The machine that the deployment is on."
  type = object({
    host        = string
    port        = number
    user        = string
    private_key = string
    host_key    = string
  })
  sensitive = true
}

resource "shopper_vllm_deployment" "llama" {
  ssh       = var.ssh
  model     = "Qwen/Qwen2.5-7B-Instruct"
  container = { image = "vllm/vllm-openai:v0.33.0" }
}

# terraform apply -invoke=action.shopper_restart_vllm.llama
action "shopper_restart_vllm" "llama" {
  config {
    ssh     = var.ssh
    server  = shopper_vllm_deployment.llama.server
    api_key = shopper_vllm_deployment.llama.api_key
    model   = shopper_vllm_deployment.llama.model
  }
}
