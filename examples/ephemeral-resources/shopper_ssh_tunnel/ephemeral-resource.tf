variable "jump_host" {
  description = "Host with a shopper on its loopback address, because the shopper has no authentication."
  type = object({
    host     = string
    port     = optional(number, 22)
    user     = string
    host_key = string
  })
}

# Needs no shopper, only SSH credentials.
provider "shopper" {
  alias = "ssh"
  ssh   = { agent = true }
}

ephemeral "shopper_ssh_tunnel" "shopper" {
  provider    = shopper.ssh
  ssh         = var.jump_host
  remote_port = 8080
}

# Another provider, which connects through the tunnel.
provider "shopper" {
  url = ephemeral.shopper_ssh_tunnel.shopper.url
}
