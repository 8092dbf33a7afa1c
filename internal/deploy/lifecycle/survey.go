package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// survey is what preflight has seen of a machine. What it did not look at, or could not see, is zero.
type survey struct {
	request Request
	runtime deploy.Runtime // nil if none can be used
	// replaced is the server to replace; zero for none.
	replaced deploy.Ref

	engine    *container.Engine
	engineErr error // why engine is nil
	// lacksEngine is set if the engine, or its GPU support, is to be installed; installable if it can be.
	lacksEngine, installable bool
	installed                bool // by this launch
	hasImage                 bool
	noNetwork                bool // containers can't be reached
	own                      []deploy.Status

	home      string
	gpus      []deploy.GPU // those that the deployment may use
	allGPUs   []deploy.GPU
	driverErr error
	// waited is how long the survey waited in vain for a driver that is being built.
	waited time.Duration
	users  []deploy.GPUUser

	portBusy   bool
	portHolder string
	// imageDisk is for the image or the installation, weightsDisk for the model.
	imageDisk, weightsDisk disk
	hubErr                 error
	reason                 string // why the runtime was chosen
	picked                 bool   // the request names no release to install
}

const (
	// portTimeout and hubTimeout bound opening a connection from the machine.
	portTimeout = 10 * time.Second
	hubTimeout  = 5 * time.Second
	// releaseTime is how long the GPU memory of a process that has just ended may take to be released.
	releaseTime = 10 * time.Second
)

// look surveys the machine, in parallel. Its error is about the connection or ctx; the survey has what is wrong with the machine.
func (l *launch) look(ctx context.Context) (*survey, error) {
	s := &survey{request: l.request, replaced: l.replaced, installed: l.installed, imageDisk: disk{free: -1}, weightsDisk: disk{free: -1}}
	var err error
	if s.home, err = homeOf(ctx, l.machine); err != nil {
		return s, err
	}
	group, gctx := errgroup.WithContext(ctx)
	engine := make(chan struct{}) // closed when lookForEngine has returned
	group.Go(func() error {
		defer close(engine)
		return s.lookForEngine(gctx, l.machine)
	})
	group.Go(func() error { return s.lookForPort(gctx, l.machine) })
	group.Go(func() error { return s.lookForHub(gctx, l.machine) })
	if s.wantsGPUs() {
		group.Go(func() error {
			return s.lookForGPUs(gctx, l.machine, func(text string) {
				l.progress.often(deploy.PhasePreflight, text)
				select {
				case <-engine:
					l.getEarly(ctx, s)
				default:
				}
			})
		})
	}
	if err := group.Wait(); err != nil {
		s.close()
		return s, err
	}
	if s.driverErr != nil && !s.request.ignores(codeDriver) {
		return s, nil // a blocking finding, and the wait may have taken all the time
	}
	s.useAllGPUs()
	for _, more := range []func(context.Context, deploy.Machine) error{s.choose, s.lookForReplaced, s.lookCloser, s.reconsider} {
		if err := more(ctx, l.machine); err != nil {
			s.close()
			return s, err
		}
	}
	return s, nil
}

func (s *survey) close() {
	if s.runtime != nil {
		_ = s.runtime.Close() // only idle connections are left to close
	}
	if s.engine != nil {
		_ = s.engine.Close()
	}
}

// wantsGPUs is false for images that run on the CPU.
func (s *survey) wantsGPUs() bool {
	return s.request.Runtime == deploy.Process || s.request.Container.GPUs != "none"
}

// homeOf returns the user's home directory, and checks that the machine runs commands.
func homeOf(ctx context.Context, machine deploy.Machine) (string, error) {
	result, err := machine.Run(ctx, host.Command{Args: []string{"sh", "-c", `printf 'shell answers\n%s' "$HOME"`}})
	if err != nil {
		return "", err
	}
	// Some machines print a greeting first.
	_, home, answers := strings.Cut(result.Stdout, "shell answers\n")
	if result.ExitCode != 0 || !answers {
		return "", fmt.Errorf("the machine's shell doesn't run commands: exit status %d, output %q",
			result.ExitCode, strings.TrimSpace(result.Stdout+result.Stderr))
	}
	return strings.TrimSpace(home), nil
}

// lookForEngine connects to the engine and reads its state, unless the request is for a process.
func (s *survey) lookForEngine(ctx context.Context, machine deploy.Machine) error {
	if s.request.Runtime == deploy.Process {
		return nil
	}
	engine, err := container.Connect(ctx, machine, s.request.Container)
	if err != nil {
		if !errors.Is(err, container.ErrNoEngine) && !errors.Is(err, container.ErrUnreachable) {
			return err
		}
		s.engineErr = err
		return s.lookForInstaller(ctx, machine)
	}
	s.engine = engine
	if facts := engine.Facts; s.wantsGPUs() && facts.GPUs == container.NoGPUs && facts.Name == "Docker" {
		if err := s.lookForInstaller(ctx, machine); err != nil {
			return err
		}
	}
	if s.hasImage, err = engine.HasImage(ctx); err != nil {
		return err
	}
	hasNetwork, err := engine.HasNetwork(ctx)
	if err != nil {
		return err
	}
	s.noNetwork = !hasNetwork
	s.own, err = engine.Find(ctx, s.request.Owner)
	return err
}

// lookForInstaller sets installable and lacksEngine.
func (s *survey) lookForInstaller(ctx context.Context, machine deploy.Machine) (err error) {
	s.installable, err = container.CanInstall(ctx, machine)
	s.lacksEngine = s.installable && s.request.Container.InstallEngine && !s.installed
	return err
}

// lookForPort opens a connection to the port. If it is refused, the port is free.
func (s *survey) lookForPort(ctx context.Context, machine deploy.Machine) error {
	dial, cancel := context.WithTimeout(ctx, portTimeout)
	defer cancel()
	port := s.request.Spec.ListenPort()
	conn, err := machine.DialContext(dial, "tcp", net.JoinHostPort(reachable(s.request.Spec.ListenAddress()), strconv.Itoa(port)))
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return ctx.Err()
	case deploy.OfConnection(err) || host.KindOf(err) == host.Prohibited:
		return err
	default:
		return nil
	}
	_ = conn.Close() // nothing was sent
	s.portBusy = true
	for _, way := range [][]string{nil, {"sudo", "-n"}} { // only root sees others' programs
		result, err := machine.Run(ctx, host.Command{Args: append(way, "ss", "-ltnpH", fmt.Sprintf("sport = :%d", port))})
		if err != nil {
			return err
		}
		if s.portHolder = portHolder(result.Stdout); s.portHolder != "" {
			return nil
		}
	}
	return nil
}

var holderPattern = regexp.MustCompile(`users:\(\("([^"]+)",pid=(\d+)`)

// portHolder returns the program in ss's output; "" if there is none, as for other users' programs.
func portHolder(output string) string {
	found := holderPattern.FindStringSubmatch(output)
	if found == nil {
		return ""
	}
	return fmt.Sprintf("%s (pid %s)", found[1], found[2])
}

// driverShare is how much of the remaining time may be spent on waiting for a driver.
const driverShare = 0.9

// lookForGPUs lists the GPUs. It waits for a driver that is still being built.
func (s *survey) lookForGPUs(ctx context.Context, machine deploy.Machine, tell func(string)) (err error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(float64(time.Until(deadline))*driverShare))
		defer cancel()
	}
	pause := pace.Looks()
	begun := time.Now()
	defer func() {
		if s.driverErr == nil || ctx.Err() == nil {
			return
		}
		s.waited = time.Since(begun)
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil // the finding about the driver says more
		}
	}()
	for {
		var gpus []deploy.GPU
		if gpus, err = deploy.QueryGPUs(ctx, machine); err == nil {
			s.allGPUs, s.gpus, s.driverErr = gpus, s.usable(gpus), nil
			s.lookForUsers(ctx, machine)
			return nil
		}
		waits, err := s.driverMayCome(ctx, machine, err)
		if err != nil || !waits {
			return err
		}
		tell("waiting for the NVIDIA driver: " + s.driverErr.Error())
		if err := pause.Wait(ctx); err != nil {
			return err
		}
	}
}

// driverMayCome reports whether to wait after a failure of nvidia-smi. It returns any other error.
func (s *survey) driverMayCome(ctx context.Context, machine deploy.Machine, err error) (bool, error) {
	failed, ok := errors.AsType[*deploy.DriverError](err)
	if !ok {
		return false, err
	}
	s.driverErr = failed
	if s.request.ignores(codeDriver) {
		return false, nil
	}
	if !failed.Missing {
		return true, nil
	}
	return driverBeingBuilt(ctx, machine)
}

// lookForUsers lists who holds GPU memory. If nobody does, it waits for the memory of a process that has just ended.
func (s *survey) lookForUsers(ctx context.Context, machine deploy.Machine) {
	ctx, cancel := context.WithTimeout(ctx, releaseTime)
	defer cancel()
	pause := pace.Looks()
	for s.memoryHeld() {
		users, err := deploy.QueryGPUUsers(ctx, machine)
		if err == nil {
			s.users = users
		}
		if len(users) > 0 || pause.Wait(ctx) != nil {
			break
		}
		if gpus, err := deploy.QueryGPUs(ctx, machine); err == nil {
			s.allGPUs, s.gpus = gpus, s.usable(gpus)
		}
	}
}

// hasFlag reports whether one of the flags is among the user's arguments.
func (s *survey) hasFlag(names ...string) bool {
	_, given := s.request.Spec.Extra(names...)
	return given
}

// choose opens the requested runtime, or the better one, and adds the deployment's processes to own.
func (s *survey) choose(ctx context.Context, machine deploy.Machine) error {
	kind := s.request.Runtime
	if kind == deploy.Auto || kind == "" {
		kind, s.reason = s.better()
	}
	var processes *process.Host
	var err error
	if kind == deploy.Container {
		if s.engine != nil {
			s.runtime, s.engine = s.engine, nil
		}
		if processes, err = process.At(machine, s.request.Process, s.home); err != nil {
			return nil //nolint:nilerr // a user without a home has no processes
		}
	} else {
		if processes, err = s.openProcess(ctx, machine); err != nil {
			return err
		}
		s.runtime = processes
	}
	own, err := processes.Find(ctx, s.request.Owner)
	s.own = append(s.own, own...)
	return err
}

// lookForReplaced adds the server to replace to own, if it isn't there.
func (s *survey) lookForReplaced(ctx context.Context, machine deploy.Machine) error {
	known := slices.ContainsFunc(s.own, func(own deploy.Status) bool { return own.ID == s.replaced.ID })
	if s.replaced.ID == "" || known {
		return nil
	}
	other, err := openRuntime(ctx, machine, s.replaced)
	if err != nil {
		return err
	}
	status, err := other.State(ctx, s.replaced)
	if err == nil && status.State != deploy.Gone {
		s.own = append(s.own, status)
	}
	return errors.Join(err, other.Close())
}

// better chooses a runtime, and says why.
func (s *survey) better() (deploy.Kind, string) {
	switch {
	case s.lacksEngine:
		return deploy.Container, "a container engine is installed"
	case s.engine == nil && errors.Is(s.engineErr, container.ErrNoEngine):
		return deploy.Process, "the machine has no container engine"
	case s.engine == nil:
		return deploy.Process, "the machine's container engine can't be reached"
	case s.wantsGPUs() && s.engine.Facts.GPUs == container.NoGPUs:
		return deploy.Process, "the machine's container engine has no GPU support"
	}
	return deploy.Container, "the machine has a container engine with GPU support"
}

// reconsider chooses a process if the request leaves the choice, a container can't work, and a process can.
func (s *survey) reconsider(ctx context.Context, machine deploy.Machine) error {
	engine, _ := s.runtime.(*container.Engine)
	found := s.judge()
	if s.request.Runtime == deploy.Container || s.lacksEngine || engine == nil || !blocks(found) {
		return nil
	}
	other := *s
	opened, err := other.openProcess(ctx, machine)
	if err != nil {
		return nil //nolint:nilerr // without a home no process can work either
	}
	other.runtime = opened
	if err := other.lookCloser(ctx, machine); err != nil {
		return errors.Join(err, opened.Close())
	}
	if blocks(other.judge()) {
		return opened.Close()
	}
	_ = engine.Close() // only idle connections are left to close
	*s = other
	s.reason = "a container can't run here: " + found[0].Fact
	return nil
}

// lookCloser looks at the disks, which depend on the runtime.
func (s *survey) lookCloser(ctx context.Context, machine deploy.Machine) (err error) {
	image := s.home
	cache := cmp.Or(s.request.Spec.Env["HF_HOME"], s.home+"/.cache/huggingface")
	switch r := s.runtime.(type) {
	case *container.Engine:
		if image, err = r.ImageDirectory(ctx, machine); err != nil {
			return err
		}
		if cache = s.request.Container.Cache; !path.IsAbs(cache) {
			cache = r.Facts.Directory // a volume
		}
	case *process.Host:
		image = r.Directory()
	}
	s.imageDisk, s.weightsDisk, err = disksOf(ctx, machine, image, cache)
	return err
}

// lookForHub opens a connection to the model hub, if the weights come from there.
func (s *survey) lookForHub(ctx context.Context, machine deploy.Machine) error {
	address := hubAddress(s.request.Spec)
	if address == "" {
		return nil
	}
	dial, cancel := context.WithTimeout(ctx, hubTimeout)
	defer cancel()
	conn, err := machine.DialContext(dial, "tcp", address)
	if err == nil {
		_ = conn.Close() // nothing was sent
		return nil
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case deploy.OfConnection(err):
		return err
	case host.KindOf(err) == host.Prohibited:
		return nil // the SSH server forbids forwarding; the machine itself may reach the hub
	}
	s.hubErr = fmt.Errorf("%s: %w", address, err)
	return nil
}

// hubAddress is the address of the hub that the model comes from; "" for another source, or if unknown.
func hubAddress(spec vllm.Spec) string {
	if strings.HasPrefix(spec.Model, "/") || strings.HasPrefix(spec.Model, ".") || spec.Env["HF_HUB_OFFLINE"] == "1" {
		return ""
	}
	for _, name := range []string{"HF_ENDPOINT", "HTTPS_PROXY", "https_proxy", "VLLM_USE_MODELSCOPE"} {
		if spec.Env[name] != "" {
			return ""
		}
	}
	return "huggingface.co:443"
}
