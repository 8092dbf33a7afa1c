resource "shopper_gpu_session" "llama" {
  name              = "llama"
  reservation_hours = 2 # a longer reservation meets it
  requirements      = { min_vram_gb = 24 }
}

# terraform apply -invoke=action.shopper_extend_session.two_more
action "shopper_extend_session" "two_more" {
  config {
    session_id       = shopper_gpu_session.llama.id
    additional_hours = 2
  }
}
