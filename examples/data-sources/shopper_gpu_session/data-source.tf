# By name, among this consumer's sessions that have not ended; or by ID.
data "shopper_gpu_session" "llama" {
  name = "llama"
}

output "llama" {
  value = "$${data.shopper_gpu_session.llama.price_per_hour} an hour until ${data.shopper_gpu_session.llama.expires_at}"
}
