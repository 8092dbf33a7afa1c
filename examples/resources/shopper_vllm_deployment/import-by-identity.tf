import {
  to = shopper_vllm_deployment.own
  identity = {
    host = "gpu.example.com"
    user = "ubuntu"
    name = "vllm-8000"
  }
}
