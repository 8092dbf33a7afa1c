package container

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Timeouts of one exchange with the engine.
const (
	probeTimeout = 30 * time.Second // the first one
	readTimeout  = time.Minute
	writeTimeout = 2 * time.Minute
	// stopGrace is how long a server has to end by itself, beyond the timeout.
	stopGrace = 20 * time.Second
)

// dialScript becomes a connection to an engine's API, through the first command that reaches one. Its first line names the command.
// If none does, its standard error says why.
const dialScript = `for way in docker 'sudo -n docker' podman 'sudo -n podman'; do
	if said=$($way system dial-stdio 2>&1 >/dev/null </dev/null); then
		echo "` + wayMark + `$way"
		exec $way system dial-stdio
	fi
	echo "$way: $said" >&2
done
exit 1`

// wayMark begins the line that names the command, which some machines precede with a greeting.
const wayMark = "engine by "

// podman is [Facts.Name] of Podman.
const podman = "Podman"

var _ deploy.Runtime = (*Engine)(nil)

// Engine is a machine's container engine, which runs containers with some options. The caller of [Connect] or [Reach] closes it.
type Engine struct {
	api     *client.Client
	via     string // the command that reaches it
	options Options
	// Facts are read once, by [Connect] or when they are needed.
	Facts Facts
}

// Facts describe an engine.
type Facts struct {
	// Name is "Docker" or "Podman", Version its release.
	Name, Version string
	// Directory holds volumes, and mostly images: see [Engine.ImageDirectory].
	Directory        string
	containerdImages bool
	GPUs             GPUSupport
	// NotAtBoot is set if the engine doesn't start its containers when the machine boots.
	NotAtBoot bool
}

// Connect connects to the machine's engine, as [Reach] does, and reads its facts.
func Connect(ctx context.Context, machine deploy.Machine, options Options) (*Engine, error) {
	engine, err := Reach(ctx, machine)
	if err != nil {
		return nil, err
	}
	engine.options = options
	if err = engine.readFacts(ctx); err == nil {
		err = engine.ask(ctx, machine)
	}
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	return engine, nil
}

// Reach connects to the machine's engine without reading its facts. The error is [ErrNoEngine] if the machine has none, and
// [ErrUnreachable] if it doesn't answer.
func Reach(ctx context.Context, machine deploy.Machine) (*Engine, error) {
	engine, err := connect(ctx, machine)
	switch {
	case err == nil:
		return engine, nil
	case ctx.Err() != nil || deploy.OfConnection(err):
		return nil, deploy.Failed(ctx, "reach the container engine", err)
	case isAbsent(err, "docker") && isAbsent(err, "podman"):
		return nil, &deploy.Error{
			Summary: "could not reach a container engine", Cause: "This machine has no Docker and no Podman.",
			WayOut: "Use runtime = \"process\", or rent a virtual machine with Docker from another cloud.",
			Err:    errors.Join(err, ErrNoEngine),
		}
	}
	return nil, &deploy.Error{
		Summary: "could not reach the container engine",
		Cause:   "The machine has a container engine, but it doesn't answer this user.",
		WayOut: "Start the engine (Podman's API with `systemctl enable --now podman.socket`), or give the user access to it: membership" +
			" in the group docker, or sudo without a password.",
		Err: errors.Join(err, ErrUnreachable),
	}
}

// isAbsent reports whether a shell did not find a program.
func isAbsent(err error, program string) bool {
	text := err.Error()
	return strings.Contains(text, program+": not found") || strings.Contains(text, program+": command not found")
}

func connect(ctx context.Context, machine deploy.Machine) (*Engine, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	pipes := &pipes{machine: machine}
	transport := &http.Transport{
		DialContext:     pipes.dial,
		MaxIdleConns:    4,
		IdleConnTimeout: 30 * time.Second,
	}
	api, err := client.New(
		client.WithHost("http://engine.invalid"), // never resolved: every connection is a command's standard input and output
		client.WithHTTPClient(&http.Client{Transport: transport, CheckRedirect: client.CheckRedirect}),
	)
	if err != nil {
		return nil, err
	}
	_, err = api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	if err == nil {
		return &Engine{api: api, via: pipes.way}, nil
	}
	// The command's error says more than "unexpected EOF".
	return nil, errors.Join(pipes.last, err, api.Close())
}

// Kind returns [deploy.Container].
func (e *Engine) Kind() deploy.Kind { return deploy.Container }

// Release is that of vLLM's image, "" for another image.
func (e *Engine) Release() string {
	release, _ := vllm.ImageVersion(e.options.Image)
	return release
}

// TLSFiles are paths in the container.
func (e *Engine) TLSFiles() (certificate, key string) { return tlsCertificatePath, tlsKeyPath }

// Reach implements [deploy.Runtime].
func (e *Engine) Reach(ref deploy.Ref) string {
	program := e.Program()
	return fmt.Sprintf("the container %s (ID %.12s); on the machine, `%s logs %.12[2]s` shows its log and %[4]s removes it",
		ref.Name, ref.ID, program, ref.Removal(program))
}

// Ports implements [deploy.Runtime].
func (*Engine) Ports(context.Context, deploy.Ref) (open []deploy.OpenPort, closed []int, err error) {
	return nil, nil, nil
}

// Close ends the connections to the engine.
func (e *Engine) Close() error { return e.api.Close() }

// pipes dials connections that are the standard input and output of [dialScript].
type pipes struct {
	machine deploy.Machine

	mu   sync.Mutex
	way  string // the command that reached the engine
	last error  // why the last connection failed
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	conn, err := p.machine.Pipe(ctx, "sh", "-c", dialScript)
	if err != nil {
		p.keep(err)
		return nil, err
	}
	piped := &pipe{Conn: conn, owner: p}
	if err := p.readWay(ctx, piped); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return piped, nil
}

// readWay reads up to the line with [wayMark], after which the engine answers.
func (p *pipes) readWay(ctx context.Context, conn net.Conn) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	line, b := "", make([]byte, 1)
	for range maxGreeting {
		if _, err := conn.Read(b); err != nil {
			return err
		}
		if b[0] != '\n' {
			line += string(b)
			continue
		}
		if way, is := strings.CutPrefix(line, wayMark); is {
			p.mu.Lock()
			p.way = way
			p.mu.Unlock()
			return nil
		}
		line = ""
	}
	return errGreeting
}

// maxGreeting bounds a machine's greeting, in bytes.
const maxGreeting = 16 << 10

var errGreeting = errors.New("the machine's output is not that of the command that connects to the engine")

func (p *pipes) keep(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = err
}

// pipe is a connection that keeps its command's error.
type pipe struct {
	net.Conn
	owner *pipes
}

// Read reads from the command's standard output.
func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if kind := host.KindOf(err); kind == host.CommandFailed || kind == host.Lost {
		p.owner.keep(err)
	}
	return n, err
}

// readFacts reads the engine's facts, unless they are known.
func (e *Engine) readFacts(ctx context.Context) error {
	if e.Facts.Name != "" {
		return nil
	}
	info, err := e.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return deploy.Failed(ctx, "read the container engine's facts", err)
	}
	e.Facts = Facts{
		Name: "Docker", Version: info.Info.ServerVersion, Directory: info.Info.DockerRootDir,
		containerdImages: inContainerd(info.Info), GPUs: gpuSupport(info.Info),
	}
	if e.isPodman(ctx) {
		e.Facts.Name = podman
	}
	return nil
}

// ask completes the facts by asking the machine.
func (e *Engine) ask(ctx context.Context, machine deploy.Machine) error {
	if e.Facts.Name == podman {
		return e.askPodmansMachine(ctx, machine)
	}
	if e.Facts.GPUs != NoGPUs {
		return nil
	}
	// Docker also uses NVIDIA's hook for requests by capability, and doesn't list it as a runtime.
	result, err := machine.Run(ctx, host.Command{Args: []string{"sh", "-c", "command -v nvidia-container-runtime-hook"}})
	if err == nil && result.ExitCode == 0 {
		e.Facts.GPUs = ByCapability
	}
	return deploy.Failed(ctx, "look for NVIDIA's container toolkit", err)
}

// isPodman reports whether the engine is Podman, which may have a command named docker.
func (e *Engine) isPodman(ctx context.Context) bool {
	if strings.HasSuffix(e.via, "podman") {
		return true
	}
	version, err := e.api.ServerVersion(ctx, client.ServerVersionOptions{})
	return err == nil && slices.ContainsFunc(version.Components, func(component system.ComponentVersion) bool {
		return strings.Contains(component.Name, "Podman")
	})
}

// Program is the engine's command for a person, such as "sudo -n docker".
func (e *Engine) Program() string { return e.via }

//go:embed podman.sh
var podmanScript string

// askPodmansMachine completes Podman's facts.
func (e *Engine) askPodmansMachine(ctx context.Context, machine deploy.Machine) error {
	result, err := machine.Run(ctx, host.Command{
		Args: []string{"sh", "-s", "--", strings.Fields(e.via)[0]}, Stdin: strings.NewReader(podmanScript),
	})
	if err != nil {
		return deploy.Failed(ctx, "look for CDI devices", err)
	}
	e.Facts.GPUs, e.Facts.NotAtBoot = NoGPUs, true
	for line := range strings.Lines(result.Stdout) {
		switch line = strings.TrimSpace(line); {
		case line == "starts at boot":
			e.Facts.NotAtBoot = false
		case strings.HasPrefix(line, cdiVendor):
			e.Facts.GPUs = ByCDI
		}
	}
	return nil
}

// containerdScript prints containerd's data directory.
const containerdScript = `root=$(sed -n "s/^root *= *[\"']\(.*\)[\"']/\1/p" /etc/containerd/config.toml 2>/dev/null)
echo "${root:-/var/lib/containerd}"`

// ImageDirectory is where images are kept. With containerd's image store, the default of new installations since Docker 29, it is
// containerd's directory (https://docs.docker.com/engine/storage/containerd/).
func (e *Engine) ImageDirectory(ctx context.Context, machine deploy.Machine) (string, error) {
	if !e.Facts.containerdImages {
		return e.Facts.Directory, nil
	}
	result, err := machine.Run(ctx, host.Command{Args: []string{"sh", "-c", containerdScript}})
	if err != nil {
		return "", deploy.Failed(ctx, "look for containerd's directory", err)
	}
	return strings.TrimSpace(result.Stdout), nil
}

// inContainerd reports whether a separate containerd keeps the images, and not the one that Docker brings and that shares Docker's
// directory. Docker reports it as in github.com/google/cadvisor/issues/3643.
func inContainerd(info system.Info) bool {
	own := info.Containerd != nil && strings.Contains(info.Containerd.Address, "/docker/")
	return !own && slices.Contains(info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"})
}

// Errors of [Connect] and [Reach] whose cause is the machine's.
var (
	ErrNoEngine    = errors.New("no container engine")
	ErrUnreachable = errors.New("container engine unreachable")
)

// known adds the cause to an engine's error, which its text alone shows.
func known(err error) error {
	if e, ok := errors.AsType[*deploy.Error](err); ok && e.Err != nil && e.Cause == "" {
		e.Explain(e.Err.Error(), imageRules)
	}
	return err
}

// imageRules explain errors of Docker, Podman, containerd and registries about an image.
var imageRules = []deploy.Rule{
	deploy.NewRule(`(?i)toomanyrequests|rate limit`,
		"The registry's rate limit for this machine is reached.",
		"Set registry_auth for the registry, or try again later."),
	deploy.NewRule(`(?i)manifest unknown|manifest for|not found: manifest`,
		"The registry has no such tag.",
		"Check the tag or digest of container.image."),
	deploy.NewRule(`(?i)pull access denied|unauthorized|authentication required|requested access to the resource is denied|`+
		`repository does not exist`,
		"The registry denies access to the image, or has no image of that name.",
		"Check the name in container.image. For a private image, set registry_auth."),
	deploy.NewRule(`(?i)no matching manifest`,
		"The image is not available for this machine's architecture.",
		"Choose an image, or a machine, of the matching architecture."),
	deploy.NewRule(`(?i)no such host|i/o timeout|tls handshake timeout|connection refused|network is unreachable`,
		"The engine can't reach the registry.",
		"Check the machine's network and name resolution, then apply again."),
}

func isNotFound(err error) bool { return err != nil && errdefs.IsNotFound(err) }
