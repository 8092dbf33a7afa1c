variable "api_key" {
  description = "The server's key. It is not stored anywhere."
  type        = string
  sensitive   = true
  ephemeral   = true
}

variable "llama" {
  description = "A deployment, such as shopper_vllm_deployment.llama."
  type        = any
}

# Checked in every plan and apply, with a key that neither state nor plan contains.
ephemeral "shopper_vllm_health" "llama" {
  ssh      = var.llama.ssh
  base_url = var.llama.base_url
  server   = var.llama.server
  api_key  = var.api_key
}

# A warning that names no ephemeral value, which no CLI would show. It stops nothing.
check "llama" {
  assert {
    condition     = ephemeral.shopper_vllm_health.llama.healthy
    error_message = "Unhealthy; the data source shopper_vllm_logs reads the server's log."
  }
}
