// Package vllm knows vLLM: a server's command line and environment, its HTTP API, what its log means while it starts
// and after it has failed, how much GPU memory a model needs, and which images fit.
//
// It knows nothing of Terraform, SSH or containers: a Client works over any http.RoundTripper, and a log is a slice
// of lines. Facts about flags, routes, metrics and messages are from vLLM's documentation and sources (project
// vllm-project/vllm); where wording changed between releases, both are recognized.
package vllm
