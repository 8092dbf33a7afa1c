variable "machine" {
  description = "Your own machine, with or without a jump host."
  type = object({
    host = string
    port = optional(number, 22)
    user = string
    bastion = optional(object({
      host = string
      port = optional(number, 22)
      user = string
    }))
  })
}

output "tunnel" {
  value = provider::shopper::format_tunnel_command({ host = "203.0.113.7", port = 2222, user = "ubuntu" }, 8000, 8000)
}

output "through_the_jump_host" {
  value = provider::shopper::format_tunnel_command(var.machine, 8000, 8000, var.machine.bastion[*]...)
}
