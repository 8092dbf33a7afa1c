variable "llama" {
  description = "A deployment, such as shopper_vllm_deployment.llama."
  type        = any
}

# Errors of the last 15 minutes.
data "shopper_vllm_logs" "errors" {
  ssh    = var.llama.ssh
  server = var.llama.server
  since  = "15m"
  filter = "ERROR|WARNING"
}

output "errors" {
  value = data.shopper_vllm_logs.errors.log
}
