# Nothing runs: neither a shopper nor the sandbox. What the provider would compute is made up.
mock_provider "shopper" {
  mock_resource "shopper_gpu_session" {
    defaults = {
      ssh = {
        host        = "192.0.2.1"
        port        = 22
        user        = "root"
        private_key = null
        host_key    = null
      }
    }
  }

  mock_resource "shopper_vllm_deployment" {
    defaults = {
      base_url = "http://127.0.0.1:8000/v1"
      server = {
        runtime   = "process"
        id        = "4711:1"
        name      = "vllm-8000"
        owner     = "mocked"
        listen    = "127.0.0.1"
        port      = 8000
        directory = null
      }
    }
  }

  mock_data "shopper_vllm_health" {
    defaults = {
      healthy = true
    }
  }
}

variables {
  name = "mocked"
}

run "passes_its_variables_on" {
  variables {
    max_price_per_hour = 1.5
    max_model_len      = 4096
  }

  assert {
    condition     = shopper_gpu_session.this.requirements.max_price_per_hour == 1.5
    error_message = "The ceiling is not passed on."
  }

  assert {
    condition     = shopper_vllm_deployment.this.max_model_len == 4096 && shopper_vllm_deployment.this.session_id == shopper_gpu_session.this.id
    error_message = "The deployment is not on the session's machine, with the requested context."
  }

  assert {
    condition     = output.healthy && output.base_url == "http://127.0.0.1:8000/v1"
    error_message = "The outputs are not the deployment's."
  }
}
