variable "name" {
  description = "Name of the service. Its machines are called NAME-1, NAME-2, …"
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$", var.name))
    error_message = "Use 1 to 60 letters, digits, dots, underscores or hyphens, beginning with a letter or a digit."
  }
}

variable "replicas" {
  description = "Number of machines that serve the model. Lowering it releases the last ones."
  type        = number
  default     = 1

  validation {
    condition     = var.replicas >= 1 && var.replicas <= 32 && floor(var.replicas) == var.replicas
    error_message = "Use a whole number from 1 to 32."
  }
}

variable "requirements" {
  description = "What each machine must provide: the requirements of shopper_gpu_session."
  type = object({
    gpu_types           = optional(list(string))
    gpu_count           = optional(number)
    min_vram_gb         = optional(number)
    max_price_per_hour  = optional(number)
    clouds              = optional(list(string))
    locations           = optional(list(string))
    min_reliability     = optional(number)
    min_cuda_version    = optional(number)
    exclude_offers      = optional(list(string))
    allow_interruptible = optional(bool)
  })
}

variable "reservation_hours" {
  description = "Minimum hours from a machine's rental to its end, 1 to 12. Raising it extends the reservations in place."
  type        = number
  default     = 1
}

variable "model" {
  description = "Hugging Face ID of the model."
  type        = string
}

variable "served_model_name" {
  description = "Model name that clients request. Default: the model's ID."
  type        = string
  default     = null
}

variable "max_model_len" {
  description = "Maximum context length in tokens. Default: the model's maximum."
  type        = number
  default     = null
}

variable "args" {
  description = "Additional flags of `vllm serve`, one element for each word."
  type        = list(string)
  default     = null
}

variable "process" {
  description = "How vLLM is found or installed: the process of shopper_vllm_deployment."
  type = object({
    version   = optional(string)
    install   = optional(string)
    directory = optional(string)
  })
  default  = {}
  nullable = false
}

variable "exposure" {
  description = "private (on the machine's loopback address) or public. On Vast.ai machines only SSH is reachable."
  type        = string
  default     = "private"
}

variable "first_local_port" {
  description = "Port on your computer for the first replica's tunnel_command. Each further replica has the next one."
  type        = number
  default     = 8000
  nullable    = false

  validation {
    condition     = var.first_local_port >= 1 && var.first_local_port <= 65504 && floor(var.first_local_port) == var.first_local_port
    error_message = "Use a port from 1 to 65504."
  }
}

variable "tls" {
  description = "Serve HTTPS. {} generates a certificate for each machine, in endpoints as ca_certificate."
  type = object({
    certificate = optional(string)
    private_key = optional(string)
  })
  default   = null
  sensitive = true
}

variable "api_key" {
  description = "Key that clients must present to every replica, stored in state. Default: a generated key for each."
  type        = string
  default     = null
  sensitive   = true
}

variable "authorized_keys" {
  description = "Your public keys to install on the machines."
  type        = set(string)
  default     = null
}

variable "session_timeouts" {
  description = "The timeouts of shopper_gpu_session, such as { create = \"30m\" }."
  type = object({
    create = optional(string)
    read   = optional(string)
    update = optional(string)
    delete = optional(string)
  })
  default = null
}

variable "deployment_timeouts" {
  description = "The timeouts of shopper_vllm_deployment, such as { create = \"90m\" } for a large model."
  type = object({
    create = optional(string)
    read   = optional(string)
    update = optional(string)
    delete = optional(string)
  })
  default = null
}

variable "hf_token" {
  description = "Hugging Face token, for a model whose terms must be accepted. It is not stored anywhere."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "hf_token_version" {
  description = "Set it with hf_token, and change it when the token changes."
  type        = number
  default     = null
}
