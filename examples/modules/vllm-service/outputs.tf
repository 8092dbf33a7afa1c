output "model" {
  description = "Model name that clients request."
  value       = coalesce(var.served_model_name, var.model)
}

output "endpoints" {
  description = "How to reach each replica's server. The base_url of a private one is valid on the machine; tunnel_command forwards it to local_port of your computer."
  sensitive   = true
  value = {
    for name in keys(local.replicas) : name => {
      base_url       = shopper_vllm_deployment.replica[name].base_url
      api_key        = shopper_vllm_deployment.replica[name].api_key
      ca_certificate = shopper_vllm_deployment.replica[name].ca_certificate
      tunnel_command = shopper_vllm_deployment.replica[name].tunnel_command
      local_port     = shopper_vllm_deployment.replica[name].local_port
      ssh            = shopper_gpu_session.replica[name].ssh
    }
  }
}

output "machines" {
  description = "For each replica: the rented machine, its price, and when it ends."
  value = {
    for name in keys(local.replicas) : name => {
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
  description = "Total price of all replicas, in USD per hour."
  value       = tonumber(format("%.4f", sum([for name in keys(local.replicas) : shopper_gpu_session.replica[name].price_per_hour])))
}

output "healthy" {
  description = "For each replica: whether every check passed."
  value       = { for name in keys(local.replicas) : name => data.shopper_vllm_health.replica[name].healthy }
}
