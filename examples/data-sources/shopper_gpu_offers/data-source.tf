# The offer that a session with these requirements would rent now.
data "shopper_gpu_offers" "large" {
  min_vram_gb        = 80
  max_price_per_hour = 3
  sort_by            = "price_per_vram_gb"
  limit              = 5
}

output "cheapest" {
  value = data.shopper_gpu_offers.large.cheapest
}

output "excluded_by" {
  value = data.shopper_gpu_offers.large.excluded
}
