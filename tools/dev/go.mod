module github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/dev

go 1.26

tool (
	github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	github.com/hashicorp/terraform-plugin-docs/cmd/tfplugindocs
	gotest.tools/gotestsum
)

require (
	github.com/golangci/golangci-lint/v2 v2.15.0
	github.com/hashicorp/terraform-plugin-docs v0.25.0
	gotest.tools/gotestsum v1.13.0
)
