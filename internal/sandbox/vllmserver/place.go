package vllmserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	recorded "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// place is where a server runs: on a machine, in a container, or neither.
type place struct {
	env     map[string]string
	root    machinefs.Root // "" where there is no machine
	net     machinefs.Root // "" for real TCP
	bridged bool           // net is a container's own
	fixed   machinefs.Facts
	version string
	visible []int // indices of the visible GPUs
	pid     int   // as the log shows it
	warming atomic.Bool
}

// nowhere are the facts of a run without a machine: it has a number of GPUs of one type.
func nowhere(gpuType string, count int) machinefs.Facts {
	gpu, _ := recorded.FindGPU(gpuType)
	return machinefs.Facts{
		GPUs: slices.Repeat([]machinefs.GPU{
			{Name: gpu.Name, MemoryMiB: gpu.MemoryMiB, ComputeCapability: gpu.ComputeCapability},
		}, count),
		Driver: machinefs.DriverReady, DriverVersion: recorded.CurrentDriver, CUDAVersion: recorded.CUDA(recorded.CurrentDriver),
		Speed: 1,
	}
}

func newPlace(env map[string]string) (*place, error) {
	p := &place{env: env, root: machinefs.Root(env[machinefs.Env]), fixed: nowhere("A10G", 1), pid: os.Getpid()}
	if text := env[FactsEnv]; text != "" {
		p.fixed = machinefs.Facts{}
		if err := json.Unmarshal([]byte(text), &p.fixed); err != nil {
			return nil, fmt.Errorf("%s: %w", FactsEnv, err)
		}
	}
	p.net = p.root
	if own := env[NetEnv]; own != "" {
		p.net, p.bridged, p.pid = machinefs.Root(own), true, 1
	}
	facts, err := p.facts()
	if err != nil {
		return nil, err
	}
	p.version = cmp.Or(strings.TrimPrefix(env[VersionEnv], "v"), facts.VLLM.Installed, DefaultVersion)
	p.visible = visibleGPUs(len(facts.GPUs), env[GPUsEnv], env)
	return p, nil
}

// facts reads the machine's facts, which change while a server runs.
func (p *place) facts() (machinefs.Facts, error) {
	if p.root == "" {
		return p.fixed, nil
	}
	return p.root.ReadFacts()
}

// latest is facts for a running server, which uses fixed if they can't be read.
func (p *place) latest() machinefs.Facts {
	if facts, err := p.facts(); err == nil {
		return facts
	}
	return p.fixed
}

// failure is the failure of the machine's facts, or that of a machine without a C compiler.
// Images have their own compiler.
func (p *place) failure() string {
	facts := p.latest()
	if facts.VLLM.Fail != "" || p.root == "" || p.bridged || facts.Packages == nil ||
		slices.Contains(slices.Concat(facts.Packages, p.root.Packages()), "gcc") {
		return facts.VLLM.Fail
	}
	return "no_compiler"
}

// visibleGPUs selects the container's GPUs, and from these those of CUDA_VISIBLE_DEVICES.
func visibleGPUs(count int, given string, env map[string]string) []int {
	all := make([]int, 0, count)
	for i := range count {
		all = append(all, i)
	}
	all = pick(all, given)
	if list, set := env["CUDA_VISIBLE_DEVICES"]; set {
		if list == "" {
			return nil
		}
		return pick(all, list)
	}
	return all
}

func pick(from []int, list string) []int {
	switch list {
	case "", "all":
		return from
	case "none", "-1":
		return nil
	}
	var chosen []int
	for field := range strings.SplitSeq(list, ",") {
		i, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || i < 0 || i >= len(from) {
			return chosen // CUDA ignores everything from the first bad entry on
		}
		chosen = append(chosen, from[i])
	}
	return chosen
}

// holdLifeline connects to the machine's lifeline, if there is one. The context ends with
// the machine.
func (p *place) holdLifeline(ctx context.Context) (context.Context, func()) {
	if p.root == "" {
		return ctx, func() {}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", p.root.Lifeline())
	if errors.Is(err, os.ErrNotExist) {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	if err != nil { // the machine is gone already
		cancel()
		return ctx, cancel
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, conn)
		cancel()
	}()
	return ctx, func() {
		_ = conn.Close()
		<-ended
		cancel()
	}
}

var errCannotAssign = errors.New("cannot assign requested address")

// bound is the server's address while it doesn't listen.
type bound struct {
	listen func() (net.Listener, error)
	close  func()
}

// bind takes the server's address. Connections are refused until it listens.
func (p *place) bind(ctx context.Context, host string, port int) (*bound, error) {
	if p.net == "" {
		return bindTCP(ctx, host, port)
	}
	loopback := host == "localhost"
	if ip := net.ParseIP(host); ip != nil {
		loopback = ip.IsLoopback()
		if !loopback && !ip.IsUnspecified() {
			return nil, errCannotAssign
		}
	} else if host != "" && !loopback {
		return nil, errCannotAssign
	}
	root := p.net
	if p.bridged && loopback {
		root = machinefs.Root(filepath.Join(string(p.net), LoopbackDir))
	}
	b, err := root.Bind(port)
	if err != nil {
		return nil, err
	}
	listen := b.Listen
	if !p.bridged && !loopback {
		listen = b.ListenAll
	}
	return &bound{listen, func() { _ = b.Close() }}, nil
}

func bindTCP(ctx context.Context, host string, port int) (*bound, error) {
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", cmp.Or(host, "0.0.0.0"))
	if err != nil {
		return nil, err
	}
	fd, err := machinefs.BindTCP(netip.AddrPortFrom(addresses[0], uint16(port)))
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return nil, errCannotAssign
	}
	if err != nil {
		return nil, err
	}
	return &bound{
		func() (net.Listener, error) { return machinefs.ListenTCP(fd) },
		func() { _ = syscall.Close(fd) },
	}, nil
}

// file is the real path of a container's file.
func (p *place) file(path string) string {
	if files := p.env[FilesEnv]; files != "" {
		inside := filepath.Join(files, path)
		if _, err := os.Stat(inside); err == nil {
			return inside
		}
	}
	return path
}

func addressInUse(err error) bool {
	return errors.Is(err, machinefs.ErrAddressInUse) || errors.Is(err, syscall.EADDRINUSE)
}

// sleep waits for d, or returns errInterrupted.
func (p *place) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errInterrupted
	}
}

// atLeast compares the release with another one, such as "0.20" or "0.8.4".
func (p *place) atLeast(version string) bool { return recorded.Compare(p.version, version) >= 0 }
