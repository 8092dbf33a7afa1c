data "shopper_templates" "vllm" {
  name_contains = "vllm"
  recommended   = true
}

output "templates" {
  value = { for t in data.shopper_templates.vllm.templates : t.name => t.hash_id }
}
