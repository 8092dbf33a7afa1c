output "tunnel" {
  value = provider::shopper::tunnel_command({ host = "203.0.113.7", port = 2222, user = "ubuntu" }, 8000)
}
