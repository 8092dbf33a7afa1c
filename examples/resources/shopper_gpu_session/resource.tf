# The cheapest matching machine, for four hours.
resource "shopper_gpu_session" "llama" {
  name              = "llama"
  reservation_hours = 4

  requirements = {
    gpu_types          = ["RTX A6000", "L40S"]
    gpu_count          = 1
    min_vram_gb        = 40
    max_price_per_hour = 1.5
    clouds             = ["vastai"]
    min_cuda_version   = 13 # what the newest vLLM is built with
  }
}

output "llama_until" {
  value = shopper_gpu_session.llama.expires_at
}
