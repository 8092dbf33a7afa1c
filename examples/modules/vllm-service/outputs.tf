output "model" {
  description = "Name that clients ask for."
  value       = coalesce(var.served_model_name, var.model)
}

output "endpoints" {
  description = "By replica: how its server is reached. base_url of a private one is as seen on the machine; tunnel_command opens it on this computer."
  sensitive   = true
  value = {
    for name in local.replicas : name => {
      base_url       = shopper_vllm_deployment.replica[name].base_url
      api_key        = shopper_vllm_deployment.replica[name].api_key
      ca_certificate = shopper_vllm_deployment.replica[name].ca_certificate
      tunnel_command = shopper_vllm_deployment.replica[name].tunnel_command
      ssh            = shopper_gpu_session.replica[name].ssh
    }
  }
}

output "machines" {
  description = "By replica: what was rented, what it costs, and until when."
  value = {
    for name in local.replicas : name => {
      session_id     = shopper_gpu_session.replica[name].id
      cloud          = shopper_gpu_session.replica[name].cloud
      gpu_type       = shopper_gpu_session.replica[name].gpu_type
      gpu_count      = shopper_gpu_session.replica[name].gpu_count
      price_per_hour = shopper_gpu_session.replica[name].price_per_hour
      expires_at     = shopper_gpu_session.replica[name].expires_at
    }
  }
}

output "price_per_hour" {
  description = "What all replicas cost together, in USD per hour."
  value       = tonumber(format("%.4f", sum([for name in local.replicas : shopper_gpu_session.replica[name].price_per_hour])))
}

output "healthy" {
  description = "By replica: whether every check passed."
  value       = { for name in local.replicas : name => data.shopper_vllm_health.replica[name].healthy }
}
