# What this provider's sessions have cost this month.
data "shopper_costs" "month" {}

# A warning in each plan instead of an output, because costs change with every read.
check "spending" {
  assert {
    condition     = data.shopper_costs.month.total_cost <= 500
    error_message = "This month: $${data.shopper_costs.month.total_cost}, ${jsonencode(data.shopper_costs.month.by_gpu_type)}"
  }
}
