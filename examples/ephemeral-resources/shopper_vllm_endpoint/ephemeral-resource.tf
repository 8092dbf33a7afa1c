variable "api_key" {
  description = "The server's key. Kept nowhere."
  type        = string
  sensitive   = true
  ephemeral   = true
}

variable "llama" {
  description = "A deployment, such as shopper_vllm_deployment.llama."
  type        = any
}

# Asked in every plan and apply, with a key that neither state nor plan holds.
ephemeral "shopper_vllm_endpoint" "llama" {
  ssh      = var.llama.ssh
  base_url = var.llama.base_url
  api_key  = var.api_key

  lifecycle {
    postcondition {
      condition     = self.ready
      error_message = "Not ready: ${self.message}"
    }
  }
}
