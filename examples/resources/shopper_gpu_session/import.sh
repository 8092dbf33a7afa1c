# By the session's ID at the shopper. The machine's private key is unknown after an import.
terraform import shopper_gpu_session.llama aaf49b51-3c8d-4989-88e2-a8f13a3075dc
