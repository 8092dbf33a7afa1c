package container

import (
	"cmp"
	"context"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Labels of a container: its deployment, its settings, and the provider's version.
const (
	labelOwner    = "terraform-provider-shopper.owner"
	labelName     = "terraform-provider-shopper.deployment"
	labelSpec     = "terraform-provider-shopper.spec"
	labelProvider = "terraform-provider-shopper.version"
	labelNote     = "terraform-provider-shopper.note"
)

// Paths of a server's certificate in its container.
const (
	tlsDirectory       = "/etc/vllm-tls"
	tlsCertificatePath = tlsDirectory + "/server.crt"
	tlsKeyPath         = tlsDirectory + "/server.key"
)

// Homes of the users that vLLM's image supports (root, and 2000:0).
const (
	rootHome  = "/root"
	otherHome = "/home/vllm"
)

// settings returns the container's settings. They include the entry point, because images before v0.11 had another one.
func (e *Engine) settings(wanted deploy.Wanted) (*container.Config, *container.HostConfig, error) {
	options := e.options
	choice, err := parseGPUs(options.GPUs)
	if err != nil {
		return nil, nil, err
	}
	mounts, binds, home := caches(options)
	exposed, bindings := publish(wanted.Listen, wanted.Port)
	config := &container.Config{
		Image:        options.Image,
		Entrypoint:   []string{vllm.Program},
		Cmd:          withFlag(wanted.Arguments, "--host", insideAddress),
		ExposedPorts: exposed,
		Env:          environment(wanted.Environment, home),
		User:         options.User,
		Labels: map[string]string{
			labelOwner: wanted.Owner, labelName: wanted.Name, labelSpec: wanted.Hash, labelProvider: wanted.Provider,
			labelNote: wanted.Note,
		},
	}
	hostConfig := &container.HostConfig{
		// The network is the engine's default, a bridge: older releases of vLLM listen on more ports than the server's.
		PortBindings: bindings,
		Binds:        binds,
		Mounts:       mounts,
		// A restart policy would turn a crash of the first start into a loop: it is set once the model has answered.
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		// Bounded, and readable through the API whatever the engine's default is.
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "64m", "max-file": "2"}},
		Resources: container.Resources{DeviceRequests: deviceRequests(choice, e.Facts.GPUs)},
		// With a private namespace, what a killed server leaves in /dev/shm is removed with the container. In the machine's
		// namespace, a real vLLM left up to 250 MB each time.
		IpcMode: container.IPCModePrivate,
		ShmSize: cmp.Or(options.ShmSize, defaultShmSize),
	}
	if e.Facts.Name != podman { // whose init may not be installed
		// The kernel ignores a TERM to process 1 without a handler, such as vLLM while it is importing.
		hostConfig.Init = new(true)
	}
	return config, hostConfig, nil
}

// environment returns variables in the engine's form. A user other than root gets a home unless the variables set one.
func environment(variables map[string]string, home string) []string {
	lines := make([]string, 0, len(variables)+1)
	for name, value := range variables {
		lines = append(lines, name+"="+value)
	}
	if _, given := variables["HOME"]; !given && home != rootHome {
		lines = append(lines, "HOME="+home)
	}
	slices.Sort(lines)
	return lines
}

// caches returns the volumes, or the machine's directories, for weights and compiled kernels. For a user other than root it is one,
// for the whole home: a new volume gets the owner and mode of the image's directory, of which only /home/vllm is writable.
func caches(options Options) (mounts []mount.Mount, binds []string, home string) {
	prefix := cmp.Or(options.Cache, defaultCache)
	home = rootHome
	targets := [][2]string{{"huggingface", rootHome + "/.cache/huggingface"}, {"vllm", rootHome + "/.cache/vllm"}}
	if !isRoot(options.User) {
		home = otherHome
		targets = [][2]string{{"home", otherHome}}
	}
	for _, target := range targets {
		if strings.HasPrefix(prefix, "/") {
			binds = append(binds, path.Join(prefix, target[0])+":"+target[1])
			continue
		}
		mounts = append(mounts, mount.Mount{Type: mount.TypeVolume, Source: prefix + "-" + target[0], Target: target[1]})
	}
	return mounts, binds, home
}

func isRoot(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	return name == "" || name == "root" || name == "0"
}

// CacheWarning warns of a user who can't write to the image's home, which only group 0 can; "" for others.
func (o Options) CacheWarning() string {
	if _, group, _ := strings.Cut(o.User, ":"); isRoot(o.User) || group == "0" || group == "root" {
		return ""
	}
	return "Only group 0 may write to the image's caches, and user " + o.User + " is not in it: the server may fail when it writes" +
		" to its cache."
}

// insideAddress is where a server listens in its container, whose loopback can't be published.
const insideAddress = "0.0.0.0"

// publish publishes a port of the container under the same number at an address of the machine, or at all of them.
func publish(listen string, port int) (network.PortSet, network.PortMap) {
	inside := tcp(port)
	address, err := netip.ParseAddr(listen)
	if err != nil { // localhost
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if address.IsUnspecified() {
		address = netip.Addr{} // of both families
	}
	return network.PortSet{inside: {}}, network.PortMap{inside: {{HostIP: address, HostPort: strconv.Itoa(port)}}}
}

// published returns a server's arguments with the address and port at which the machine publishes it. A container in the machine's
// own network publishes nothing: its arguments are unchanged.
func published(arguments []string, on *container.HostConfig) []string {
	port := vllm.ParseCommandLine(arguments).Port
	if on == nil || len(on.PortBindings[tcp(port)]) == 0 {
		return arguments
	}
	bindings := on.PortBindings[tcp(port)]
	widest := slices.IndexFunc(bindings, func(b network.PortBinding) bool { return !b.HostIP.IsLoopback() })
	binding := bindings[max(widest, 0)]
	listen := insideAddress
	if binding.HostIP.IsValid() {
		listen = binding.HostIP.String()
	}
	return withFlag(withFlag(arguments, "--host", listen), "--port", binding.HostPort)
}

func tcp(port int) network.Port {
	named, _ := network.PortFrom(uint16(port), network.TCP)
	return named
}

// withFlag replaces a flag's value, if the flag is there.
func withFlag(arguments []string, flag, value string) []string {
	arguments = slices.Clone(arguments)
	if at := slices.Index(arguments, flag); at >= 0 && at+1 < len(arguments) {
		arguments[at+1] = value
	}
	return arguments
}

// HasNetwork reports whether ports can be published. With its bridge turned off (dockerd --bridge none), Docker starts containers
// without a network.
func (e *Engine) HasNetwork(ctx context.Context) (bool, error) {
	if e.Facts.Name == podman { // which creates its default network when needed
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := e.api.NetworkInspect(ctx, network.NetworkBridge, client.NetworkInspectOptions{})
	if isNotFound(err) {
		return false, nil
	}
	return err == nil, deploy.Failed(ctx, "look for the bridge network", err)
}
