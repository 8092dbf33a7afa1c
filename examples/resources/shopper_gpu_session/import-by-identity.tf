import {
  to = shopper_gpu_session.llama
  identity = {
    id = "aaf49b51-3c8d-4989-88e2-a8f13a3075dc"
  }
}
