# By its name, among this consumer's sessions that have not ended; or by its id.
data "shopper_gpu_session" "llama" {
  name = "llama"
}

output "left" {
  value = "${data.shopper_gpu_session.llama.hours_left} hours, $${data.shopper_gpu_session.llama.cost} so far"
}
