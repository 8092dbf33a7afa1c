data "shopper_service" "this" {}

check "shopper" {
  assert {
    condition     = data.shopper_service.this.healthy && data.shopper_service.this.ready
    error_message = "The shopper at ${data.shopper_service.this.url}: ${coalesce(data.shopper_service.this.message, "not ready")}"
  }
}
