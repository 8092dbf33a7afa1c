package vllmserver_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// TestMain is also the program `vllm`, for the tests that start it as a process.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "vllm" {
		os.Exit(vllmserver.Main(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}
