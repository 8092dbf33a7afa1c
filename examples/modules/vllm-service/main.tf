locals {
  replicas = { for i in range(var.replicas) : "${var.name}-${i + 1}" => i }
}

resource "shopper_gpu_session" "replica" {
  for_each = local.replicas

  name              = each.key
  requirements      = var.requirements
  reservation_hours = var.reservation_hours
  authorized_keys   = var.authorized_keys
  timeouts          = var.session_timeouts
}

resource "shopper_vllm_deployment" "replica" {
  for_each = local.replicas

  session_id = shopper_gpu_session.replica[each.key].id
  ssh        = shopper_gpu_session.replica[each.key].ssh

  model             = var.model
  served_model_name = var.served_model_name
  max_model_len     = var.max_model_len
  args              = var.args
  exposure          = var.exposure
  local_port        = var.first_local_port + each.value
  tls               = var.tls
  process           = var.process
  timeouts          = var.deployment_timeouts

  api_key             = var.api_key
  hf_token_wo         = var.hf_token
  hf_token_wo_version = var.hf_token_version
}

data "shopper_vllm_health" "replica" {
  for_each = local.replicas

  # Queried through its machine, whether the server is public or private.
  ssh            = shopper_gpu_session.replica[each.key].ssh
  base_url       = "${nonsensitive(var.tls == null) ? "http" : "https"}://127.0.0.1:${shopper_vllm_deployment.replica[each.key].port}/v1"
  ca_certificate = shopper_vllm_deployment.replica[each.key].ca_certificate
  api_key        = shopper_vllm_deployment.replica[each.key].api_key
  server         = shopper_vllm_deployment.replica[each.key].server
}

# A warning in each plan and apply that stops nothing: the same apply restarts the server.
check "healthy" {
  assert {
    condition = alltrue([for name in keys(local.replicas) : data.shopper_vllm_health.replica[name].healthy])
    error_message = "Unhealthy: ${join("; ", flatten([
      for name in keys(local.replicas) : [
        for failure in data.shopper_vllm_health.replica[name].failures : "${name}, ${failure}"
      ]
    ]))}"
  }
}
