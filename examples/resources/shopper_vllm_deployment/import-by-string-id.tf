import {
  to = shopper_vllm_deployment.llama
  id = "aaf49b51-3c8d-4989-88e2-a8f13a3075dc/vllm-8000"
}
