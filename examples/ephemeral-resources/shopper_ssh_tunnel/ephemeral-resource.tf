variable "jump_host" {
  description = "A host on whose loopback a shopper listens, which has no authentication of its own."
  type = object({
    host     = string
    user     = string
    host_key = string
  })
}

# Needs nothing of the shopper: only the credentials for SSH.
provider "shopper" {
  alias = "ssh"
  ssh   = { agent = true }
}

ephemeral "shopper_ssh_tunnel" "shopper" {
  provider    = shopper.ssh
  ssh         = var.jump_host
  remote_port = 8080
}

# Another provider, fed through the tunnel.
provider "shopper" {
  url = ephemeral.shopper_ssh_tunnel.shopper.url
}
