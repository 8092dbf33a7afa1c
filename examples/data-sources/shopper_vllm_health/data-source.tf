variable "llama" {
  description = "A deployment, such as shopper_vllm_deployment.llama."
  type        = any
  sensitive   = true
}

data "shopper_vllm_health" "llama" {
  ssh      = var.llama.ssh
  base_url = var.llama.base_url
  api_key  = var.llama.api_key
  server   = var.llama.server
}

# In a check block, an unhealthy server is a warning in the plan and stops nothing.
check "llama" {
  assert {
    condition     = data.shopper_vllm_health.llama.healthy
    error_message = "Unhealthy: ${join("; ", data.shopper_vllm_health.llama.failures)}"
  }
}

# In a postcondition, an unhealthy server is an error. One check is skipped, and one metric is tested.
data "shopper_vllm_health" "strict" {
  ssh      = var.llama.ssh
  base_url = var.llama.base_url
  api_key  = var.llama.api_key
  skip     = ["completion"]

  lifecycle {
    postcondition {
      condition     = self.healthy
      error_message = "Unhealthy: ${join("; ", self.failures)}"
    }

    postcondition {
      condition     = coalesce(self.checks.health.requests_waiting, 0) < 100
      error_message = "The queue is long."
    }
  }
}
