variable "ssh" {
  description = "A machine that runs vLLM on its loopback."
  type = object({
    host        = string
    port        = number
    user        = string
    private_key = string
    host_key    = string
  })
  sensitive = true
}

data "shopper_vllm_health" "server" {
  ssh = var.ssh
}

# Judged in a check block: an unhealthy server is a warning of the plan, and stops nothing.
check "server" {
  assert {
    condition     = data.shopper_vllm_health.server.healthy
    error_message = "Unhealthy: ${join("; ", data.shopper_vllm_health.server.failures)}"
  }
}

# Judged in a postcondition: an error. One check is left out, and one figure looked at.
data "shopper_vllm_health" "strict" {
  ssh  = var.ssh
  skip = ["completion"]

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
