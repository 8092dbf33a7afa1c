variable "known_ids" {
  description = "IDs of the sessions that your configurations manage, such as from an output of each."
  type        = list(string)
  default     = []
}

# In a scheduled plan: leftovers of a laptop that died or a job that was killed.
data "shopper_gpu_sessions" "live" {
  known_ids  = var.known_ids
  older_than = "1h"
}

check "nothing_is_left_behind" {
  assert {
    condition = length(data.shopper_gpu_sessions.live.stray_ids) == 0
    error_message = "Leftover sessions: ${join(", ", [
      for s in data.shopper_gpu_sessions.live.sessions : "${s.id} (${s.mark}, until ${s.expires_at})" if s.stray
    ])}"
  }
}
