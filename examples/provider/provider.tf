terraform {
  required_providers {
    shopper = {
      source  = "cloud-gpu-shopper/shopper"
      version = "~> 0.1"
    }
  }
}

variable "shopper_token" {
  description = "Token for the proxy in front of the shopper."
  type        = string
  sensitive   = true
}

provider "shopper" {
  url         = "https://shopper.example.org"
  token       = var.shopper_token
  consumer_id = "research"

  # Limit for the total price of all sessions. A session that would exceed it is not rented.
  budget = {
    max_price_per_hour = 6
  }
}
