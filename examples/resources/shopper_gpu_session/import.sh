# By the session's id, as the shopper lists it. The machine's private key is not known after an import.
terraform import shopper_gpu_session.llama aaf49b51-3c8d-4989-88e2-a8f13a3075dc
