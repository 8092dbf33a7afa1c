package engine

import (
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/moby/moby/api/types/system"
)

func (e *Engine) ping(w http.ResponseWriter, req *http.Request) error {
	w.Header().Set("Cache-Control", "no-cache, no-store, must-revalidate")
	w.Header().Set("Builder-Version", "2")
	w.Header().Set("Swarm", "inactive")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if req.Method != http.MethodHead {
		_, _ = w.Write([]byte("OK"))
	}
	return nil
}

func (e *Engine) version(w http.ResponseWriter, _ *http.Request) error {
	if release := e.podman(); release != "" {
		return podmanVersion(w, release)
	}
	const kernel, built = "6.8.0-79-generic", "2025-09-03T20:58:05.000000000+00:00"
	component := func(name, version, commit string) map[string]any {
		return map[string]any{"Name": name, "Version": version, "Details": map[string]string{"GitCommit": commit}}
	}
	details := map[string]string{
		"ApiVersion": apiVersion, "MinAPIVersion": minAPIVersion, "Arch": runtime.GOARCH, "BuildTime": built,
		"Experimental": "false", "GitCommit": "249d679", "GoVersion": runtime.Version(), "KernelVersion": kernel, "Os": "linux",
	}
	return writeJSON(w, http.StatusOK, map[string]any{
		"Platform": map[string]string{"Name": "Docker Engine - Community"}, "Version": engineVersion,
		"ApiVersion": apiVersion, "MinAPIVersion": minAPIVersion, "GitCommit": "249d679", "GoVersion": runtime.Version(),
		"Os": "linux", "Arch": runtime.GOARCH, "KernelVersion": kernel, "BuildTime": built,
		"Components": []any{
			map[string]any{"Name": "Engine", "Version": engineVersion, "Details": details},
			component("containerd", "v1.7.28", "b98a3aa"), component("runc", "1.3.0", "4ca628d"),
		},
	})
}

func (e *Engine) info(w http.ResponseWriter, _ *http.Request) error {
	facts := e.facts()
	info := system.Info{
		ID: "5f0c2f5e-7d1c-4f4b-9d3e-sandbox", Driver: "overlay2", LoggingDriver: "json-file", CgroupDriver: "systemd", CgroupVersion: "2",
		MemoryLimit: true, SwapLimit: true, CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true,
		PidsLimit: true, IPv4Forwarding: true,
		KernelVersion: "6.8.0-79-generic", OperatingSystem: "Ubuntu 22.04.5 LTS", OSVersion: "22.04", OSType: "linux", Architecture: "x86_64",
		NCPU: 16, MemTotal: 128 << 30, DockerRootDir: "/var/lib/docker", Name: "sandbox", ServerVersion: engineVersion,
		SystemTime: timestamp(time.Now()), DefaultRuntime: "runc", CDISpecDirs: []string{"/etc/cdi", "/var/run/cdi"},
		Runtimes: map[string]system.RuntimeWithStatus{"runc": {}, "io.containerd.runc.v2": {}},
		Labels:   []string{}, SecurityOptions: []string{"name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"}, InitBinary: "docker-init",
	}
	info.Runtimes["runc"] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: "runc"}}
	info.Runtimes["io.containerd.runc.v2"] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: "runc"}}
	if hasNVIDIARuntime(facts) {
		info.Runtimes["nvidia"] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: "nvidia-container-runtime"}}
	}
	if !facts.NoGPURuntime {
		info.DiscoveredDevices = []system.DeviceInfo{{Source: "cdi", ID: cdiPrefix + "all"}}
	}
	if release := e.podman(); release != "" {
		info = podmanInfo(release)
	}
	for _, c := range e.all() {
		info.Containers++
		if c.snapshot().Running {
			info.ContainersRunning++
		} else {
			info.ContainersStopped++
		}
	}
	e.mu.Lock()
	info.Images = len(e.local)
	e.mu.Unlock()
	return writeJSON(w, http.StatusOK, info)
}

// timestamp writes a time as the engine does: UTC, RFC 3339, nanoseconds.
func timestamp(t time.Time) string {
	if t.IsZero() {
		return "0001-01-01T00:00:00Z"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// event is what /events tells of a container.
type event struct {
	Type     string     `json:"Type"`
	Action   string     `json:"Action"`
	Actor    eventActor `json:"Actor"`
	Scope    string     `json:"scope"`
	Time     int64      `json:"time"`
	TimeNano int64      `json:"timeNano"`
	ID       string     `json:"id"`
	Status   string     `json:"status"`
}

type eventActor struct {
	ID         string            `json:"ID"`
	Attributes map[string]string `json:"Attributes"`
}

// broadcaster hands events to whoever listens. A listener that does not keep up
// loses events rather than hold up the engine.
type broadcaster struct {
	mu        sync.Mutex
	listeners map[chan event]bool
}

func (b *broadcaster) subscribe() (events <-chan event, cancel func()) {
	ch := make(chan event, 64)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listeners == nil {
		b.listeners = map[chan event]bool{}
	}
	b.listeners[ch] = true
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners, ch)
	}
}

func (b *broadcaster) publish(ev event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.listeners {
		select {
		case ch <- ev:
		default:
		}
	}
}

func (e *Engine) tell(c *container, action string, attributes map[string]string) {
	now := time.Now()
	all := map[string]string{"name": c.plainName(), "image": c.config.Image}
	for name, value := range attributes {
		all[name] = value
	}
	e.events.publish(event{
		Type: "container", Action: action, Status: action, ID: c.id, Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano(),
		Actor: eventActor{ID: c.id, Attributes: all},
	})
}

func (e *Engine) streamEvents(w http.ResponseWriter, req *http.Request) error {
	wanted, err := readFilters(req)
	if err != nil {
		return err
	}
	events, cancel := e.events.subscribe()
	defer cancel()
	out := newStream(w)
	for {
		select {
		case <-req.Context().Done():
			return nil
		case <-e.life.Done():
			return nil
		case ev := <-events:
			if wanted.any("event", func(v string) bool { return v == ev.Action }) && wanted.any("type", func(v string) bool { return v == ev.Type }) && wanted.any("container", func(v string) bool { return v == ev.ID || v == ev.Actor.Attributes["name"] }) {
				out.send(ev)
			}
		}
	}
}
