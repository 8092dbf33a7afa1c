# Runs against the sandbox at SHOPPER_URL: rents machines, starts and queries a server, and releases
# everything at the end.

variables {
  name = "served-model"
}

# A plan rents nothing.
run "refuses_a_machine_that_is_too_dear" {
  command = plan

  variables {
    max_price_per_hour = 50
  }

  expect_failures = [var.max_price_per_hour]
}

run "serves_the_model" {
  assert {
    condition     = output.healthy
    error_message = "The machine, the server or the model failed a check."
  }

  assert {
    condition     = output.price_per_hour <= var.max_price_per_hour
    error_message = "The machine costs ${output.price_per_hour} USD per hour."
  }

  assert {
    condition     = startswith(output.base_url, "http://127.0.0.1:")
    error_message = "The API listens on ${output.base_url}, which others may reach."
  }
}

# A different context length restarts the server on the same machine.
run "changes_the_server" {
  variables {
    max_model_len = 4096
  }

  assert {
    condition     = shopper_vllm_deployment.this.served_max_model_len == 4096
    error_message = "The server still has a context of ${shopper_vllm_deployment.this.served_max_model_len} tokens."
  }
}
