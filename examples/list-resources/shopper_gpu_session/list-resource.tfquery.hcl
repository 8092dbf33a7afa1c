# terraform query -generate-config-out=imported.tf
list "shopper_gpu_session" "ours" {
  provider = shopper

  config {
    name_prefix = "llama"
  }
}
