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

# Judged in a check block: an unhealthy server is a warning of the plan, and stops nothing.
check "server" {
  data "shopper_vllm_health" "server" {
    base_url = "http://127.0.0.1:8000/v1"
    ssh      = var.ssh
  }

  assert {
    condition     = data.shopper_vllm_health.server.healthy
    error_message = "Unhealthy: ${join("; ", [for c in data.shopper_vllm_health.server.checks : "${c.name}: ${c.message}" if c.status == "failed"])}"
  }
}
