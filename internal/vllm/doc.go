// Package vllm knows vLLM: what a server is told (its command line and environment), how it answers over HTTP, what
// its log means while it starts and after it has failed, how much GPU memory a model needs, and which images fit.
//
// It knows nothing of Terraform, SSH, or containers: a Client works over any http.RoundTripper, and a log is a slice
// of lines. Facts about flags, routes, metrics and messages come from vLLM's documentation and sources (project
// vllm-project/vllm); where wording changed between releases, both are recognized.
package vllm
