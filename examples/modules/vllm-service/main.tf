locals {
  replicas = toset([for i in range(var.replicas) : "${var.name}-${i + 1}"])
}

resource "shopper_gpu_session" "replica" {
  for_each = local.replicas

  name              = each.key
  requirements      = var.requirements
  reservation_hours = var.reservation_hours
}

resource "shopper_vllm_deployment" "replica" {
  for_each = local.replicas

  session_id = shopper_gpu_session.replica[each.key].id
  ssh        = shopper_gpu_session.replica[each.key].ssh

  model             = var.model
  served_model_name = var.served_model_name
  max_model_len     = var.max_model_len
  args              = var.args

  hf_token_wo         = var.hf_token
  hf_token_wo_version = var.hf_token_version

  process = {
    version = var.vllm_version
  }
}

data "shopper_vllm_health" "replica" {
  for_each = local.replicas

  ssh      = shopper_gpu_session.replica[each.key].ssh
  base_url = shopper_vllm_deployment.replica[each.key].base_url
  api_key  = shopper_vllm_deployment.replica[each.key].api_key
  server   = shopper_vllm_deployment.replica[each.key].server
}

# A warning of each plan and apply, which stops nothing: what is down is started
# again by the same apply that warns.
check "healthy" {
  assert {
    condition = alltrue([for name in local.replicas : data.shopper_vllm_health.replica[name].healthy])
    error_message = "Unhealthy: ${join("; ", flatten([
      for name in local.replicas : [
        for failure in data.shopper_vllm_health.replica[name].failures : "${name}, ${failure}"
      ]
    ]))}"
  }
}
