# Run against the sandbox (SHOPPER_URL says where it listens): machines are rented,
# a server is started and asked, and everything is given back at the end.

variables {
  name = "served-model"
}

# Nothing is rented for a plan.
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

# Another context length: another server, on the machine that is there.
run "changes_the_server" {
  variables {
    max_model_len = 4096
  }

  assert {
    condition     = shopper_vllm_deployment.this.served_max_model_len == 4096
    error_message = "The server still has a context of ${shopper_vllm_deployment.this.served_max_model_len} tokens."
  }
}
