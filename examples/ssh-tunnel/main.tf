terraform {
  # Ephemeral resources, and with OpenTofu 1.11.
  required_version = ">= 1.10.0"

  required_providers {
    shopper = {
      source = "cloud-gpu-shopper/shopper"
    }
  }
}

provider "shopper" {}

resource "shopper_gpu_session" "qwen" {
  name = "tunnelled"

  requirements = {
    min_vram_gb        = 24
    max_price_per_hour = 2.5
    clouds             = ["bluelobster"]
  }
}

resource "shopper_vllm_deployment" "qwen" {
  session_id    = shopper_gpu_session.qwen.id
  ssh           = shopper_gpu_session.qwen.ssh
  model         = "Qwen/Qwen2.5-7B-Instruct"
  max_model_len = 8192

  container = {
    image = "vllm/vllm-openai:v0.33.0"
  }
}

# Open for the length of the run, on a port of this computer's loopback.
ephemeral "shopper_ssh_tunnel" "qwen" {
  ssh         = shopper_gpu_session.qwen.ssh
  remote_port = 8000

  # Nothing listens there before.
  depends_on = [shopper_vllm_deployment.qwen]
}

# Its address is another for each run, so that only what keeps nothing of it can
# take it: other providers' configuration, provisioners, ephemeral resources and
# write-only arguments.
resource "terraform_data" "ask" {
  triggers_replace = shopper_vllm_deployment.qwen.id

  provisioner "local-exec" {
    command = "curl --fail --silent --show-error -H \"Authorization: Bearer $API_KEY\" \"$URL/v1/models\""

    environment = {
      URL     = ephemeral.shopper_ssh_tunnel.qwen.url
      API_KEY = shopper_vllm_deployment.qwen.api_key
    }
  }
}
