# Runs against the sandbox at SHOPPER_URL. Nothing real is rented.

variables {
  hf_token         = "hf_notARealToken"
  hf_token_version = 1
  name             = "tested"
  model            = "Qwen/Qwen2.5-7B-Instruct"
  requirements = {
    min_vram_gb = 24
    clouds      = ["vastai"]
  }
}

run "refuses_half_a_replica" {
  command = plan

  variables {
    replicas = 1.5
  }

  expect_failures = [var.replicas]
}

run "one_replica" {
  assert {
    condition     = output.healthy == { "tested-1" = true }
    error_message = "The service is not healthy: ${jsonencode(output.healthy)}"
  }

  assert {
    condition     = output.machines["tested-1"].cloud == "vastai" && output.price_per_hour > 0
    error_message = "The machines don't meet the requirements: ${jsonencode(output.machines)}"
  }

  assert {
    condition     = output.model == "Qwen/Qwen2.5-7B-Instruct"
    error_message = "Another model is served: ${output.model}"
  }
}

run "another_replica_joins" {
  variables {
    replicas          = 2
    served_model_name = "qwen"
  }

  assert {
    condition     = length(output.endpoints) == 2 && alltrue(values(output.healthy))
    error_message = "Not both are healthy: ${jsonencode(output.healthy)}"
  }

  assert {
    condition = alltrue([
      for name, port in { "tested-1" = 8000, "tested-2" = 8001 } :
      strcontains(output.endpoints[name].tunnel_command, "-L 127.0.0.1:${port}:127.0.0.1:8000 ") && output.endpoints[name].local_port == port
    ])
    error_message = "The tunnels collide: ${jsonencode(values(nonsensitive(output.endpoints))[*].tunnel_command)}"
  }

  assert {
    condition     = output.endpoints["tested-1"].api_key != output.endpoints["tested-2"].api_key
    error_message = "Two replicas have the same key."
  }

  assert {
    condition     = output.model == "qwen"
    error_message = "Another name is served: ${output.model}"
  }
}

run "with_a_key_and_a_certificate" {
  variables {
    replicas            = 2
    served_model_name   = "qwen"
    tls                 = {}
    api_key             = "sk-sharedByBoth"
    authorized_keys     = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBIXgHmlk9FPWPb3rWg8ENjhT51bEQBWdTPX7N6fvzMC"]
    process             = { install = "missing" }
    session_timeouts    = { create = "40m" }
    deployment_timeouts = { create = "50m" }
  }

  assert {
    condition     = alltrue(values(output.healthy))
    error_message = "Not both are healthy: ${jsonencode(output.healthy)}"
  }

  assert {
    condition = alltrue([
      for endpoint in values(output.endpoints) :
      endpoint.base_url == "https://127.0.0.1:8000/v1" && endpoint.api_key == "sk-sharedByBoth" && endpoint.ca_certificate != null
    ])
    error_message = "Not both are reached with the shared key over HTTPS."
  }
}

run "and_leaves" {
  variables {
    served_model_name = "qwen"
  }

  assert {
    condition     = keys(output.machines) == ["tested-1"]
    error_message = "Left: ${jsonencode(keys(output.machines))}"
  }
}
