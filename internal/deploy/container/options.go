// Package container runs vLLM servers as containers, through the Docker Engine API over a
// command's standard input and output on the machine (`docker system dial-stdio`). No container is
// ever described on a command line. It is the only package that uses the Docker client.
package container

// Options say how a container is run.
type Options struct {
	// Image must have a tag or a digest.
	Image string
	// Name is the container's name; "" = the deployment's.
	Name string
	// GPUs is "all" (or ""), "none", a count, or a list of indices or UUIDs separated by commas.
	GPUs string
	// ShmSize is the shared memory in bytes; 0 = DefaultShmSize.
	ShmSize int64
	// User is USER[:GROUP]; "" = the image's own.
	User string
	// Cache is a prefix of volume names, or an absolute path on the machine, for weights and compiled
	// kernels; "" = DefaultCache.
	Cache string
	// PullPolicy is "missing" (or ""), "always" or "never".
	PullPolicy   string
	RegistryAuth *RegistryAuth
	// InstallEngine lets Docker and NVIDIA's container toolkit be installed where the machine lacks them.
	InstallEngine bool
}

// RegistryAuth are the credentials for the image's registry. They are sent to the engine in a
// header of the pull and are stored nowhere.
type RegistryAuth struct {
	Username, Password string
	// IdentityToken may be given instead of a password.
	IdentityToken string
}

// DefaultShmSize is a limit, not a reservation. vLLM asks for the machine's IPC namespace or enough shared memory
// (https://docs.vllm.ai/en/stable/deployment/docker.html), and names no size.
const DefaultShmSize = 16 << 30

// DefaultCache is the prefix of the cache volumes' names.
const DefaultCache = "shopper-vllm"
