variable "llama" {
  description = "A deployment, such as shopper_vllm_deployment.llama."
  type        = any
}

# What went wrong in the last quarter of an hour.
data "shopper_vllm_logs" "errors" {
  ssh    = var.llama.ssh
  server = var.llama.server
  since  = "15m"
  filter = "ERROR|WARNING"
}

output "errors" {
  value = data.shopper_vllm_logs.errors.log
}
