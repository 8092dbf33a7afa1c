# To generate the resource with plan -generate-config-out, add "provider = shopper" until it is written.
import {
  to = shopper_gpu_session.llama
  id = "aaf49b51-3c8d-4989-88e2-a8f13a3075dc"
}
