output "machine" {
  description = "The rented machine, and when it ends."
  value = {
    gpu            = "${shopper_gpu_session.quickstart.gpu_count} × ${shopper_gpu_session.quickstart.gpu_type}"
    cloud          = shopper_gpu_session.quickstart.cloud
    price_per_hour = shopper_gpu_session.quickstart.price_per_hour
    expires_at     = shopper_gpu_session.quickstart.expires_at
  }
}

output "endpoint" {
  description = "The served model."
  value = {
    base_url       = shopper_vllm_deployment.quickstart.base_url
    model          = data.shopper_vllm_endpoint.quickstart.model
    context_length = data.shopper_vllm_endpoint.quickstart.context_length
    vllm_version   = data.shopper_vllm_endpoint.quickstart.vllm_version
    ready          = data.shopper_vllm_endpoint.quickstart.ready
  }
}

output "base_url" {
  description = "Base URL of the OpenAI API, through the tunnel."
  value       = shopper_vllm_deployment.quickstart.base_url
}

output "healthy" {
  description = "Whether every check passed."
  value       = data.shopper_vllm_health.quickstart.healthy
}

output "tunnel_command" {
  description = "Command that forwards the server's port to your computer."
  value       = shopper_vllm_deployment.quickstart.tunnel_command
}

output "api_key" {
  description = "Key that clients must present."
  value       = shopper_vllm_deployment.quickstart.api_key
  sensitive   = true
}

output "private_key" {
  description = "The machine's one-time key, for the tunnel."
  value       = shopper_gpu_session.quickstart.ssh.private_key
  sensitive   = true
}

output "ssh" {
  description = "How to log in to the machine."
  value       = shopper_gpu_session.quickstart.ssh
  sensitive   = true
}
