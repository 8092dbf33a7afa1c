terraform {
  # Write-only arguments and ephemeral variables.
  required_version = ">= 1.11.0"

  required_providers {
    shopper = {
      source  = "cloud-gpu-shopper/shopper"
      version = ">= 0.1"
    }
  }
}
