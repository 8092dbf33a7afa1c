# On a session's machine: by the session's ID and the server's name on the machine, which is vllm-PORT
# unless container.name is set.
terraform import shopper_vllm_deployment.llama aaf49b51-3c8d-4989-88e2-a8f13a3075dc/vllm-8000

# On any other machine.
terraform import shopper_vllm_deployment.own ubuntu@gpu.example.com:22/vllm-8000

# Through a jump host, whose login comes first; and a process in process.directory, which comes last.
terraform import shopper_vllm_deployment.own me@jump.example.com:22,ubuntu@10.0.0.5/vllm-8000:/srv/vllm
