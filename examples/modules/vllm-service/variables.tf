variable "name" {
  description = "Name of the service. Its machines are called NAME-1, NAME-2, …"
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$", var.name))
    error_message = "Use 1 to 60 letters, digits, dots, underscores or hyphens, beginning with a letter or a digit."
  }
}

variable "replicas" {
  description = "How many machines serve the model. Lowering it gives the last ones back."
  type        = number
  default     = 1

  validation {
    condition     = var.replicas >= 1 && var.replicas <= 32 && floor(var.replicas) == var.replicas
    error_message = "Use a whole number from 1 to 32."
  }
}

variable "requirements" {
  description = "What each machine must be: the requirements of shopper_gpu_session."
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
  description = "Hours from a machine's rental to its end, 1 to 12, at least. Raising it extends the reservations in place."
  type        = number
  default     = 1
}

variable "model" {
  description = "Hugging Face id of the model."
  type        = string
}

variable "served_model_name" {
  description = "Name that clients ask for. Default: the model's id."
  type        = string
  default     = null
}

variable "max_model_len" {
  description = "Longest context in tokens. Default: what the model allows."
  type        = number
  default     = null
}

variable "args" {
  description = "Further flags of `vllm serve`, one element for each word."
  type        = list(string)
  default     = null
}

variable "vllm_version" {
  description = "Release of vLLM, such as \"0.33.0\". Default: the machine's own, else the newest that its driver runs."
  type        = string
  default     = null
}

variable "hf_token" {
  description = "Hugging Face token, for a model whose terms have to be accepted. It is kept nowhere."
  type        = string
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "hf_token_version" {
  description = "To be given with hf_token, and changed when it changes."
  type        = number
  default     = null
}
