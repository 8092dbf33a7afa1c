// Package process runs vLLM servers as processes, on machines without a container engine. A fixed
// launcher script is fed over standard input; arguments are quoted words, and secrets come on
// standard input, so that they are neither in a process list nor on a disk.
package process

// Options say how vLLM is found or installed.
type Options struct {
	// Version is the vLLM release wanted, such as "0.33.0"; "" = whatever is on PATH, else the newest.
	Version string
	// Install is "missing" (or ""): install with uv where the version isn't there; "never".
	Install string
	// Directory is an absolute path on the machine; "" = DefaultDirectory under the user's home.
	Directory string
}

// DefaultDirectory is where vLLM and its servers' records are kept, under the user's home.
const DefaultDirectory = ".shopper-vllm"
