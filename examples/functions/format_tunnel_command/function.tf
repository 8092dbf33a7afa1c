variable "machine" {
  description = "A machine of your own, behind a jump host or not."
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
