data "shopper_service" "this" {}

check "shopper" {
  assert {
    condition     = data.shopper_service.this.healthy && coalesce(data.shopper_service.this.ready, false)
    error_message = "The shopper at ${data.shopper_service.this.url}: ${data.shopper_service.this.message}"
  }
}
