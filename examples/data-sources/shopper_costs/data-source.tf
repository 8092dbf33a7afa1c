# What this provider's sessions have cost this month.
data "shopper_costs" "month" {}

output "spent" {
  value = {
    total       = data.shopper_costs.month.total_cost
    by_gpu_type = data.shopper_costs.month.by_gpu_type
  }
}
