package engine

import (
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
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
	return writeJSON(w, http.StatusOK, e.self().Version)
}

func (e *Engine) info(w http.ResponseWriter, _ *http.Request) error {
	machine, info := e.facts(), e.self().Info
	if machine.Podman == "" { // which tells nothing of GPUs
		if runtimes, ok := info["Runtimes"].(map[string]any); ok && hasNVIDIARuntime(machine) {
			runtimes["nvidia"] = system.Runtime{Path: "nvidia-container-runtime"}
		}
		if !machine.NoGPURuntime {
			info["DiscoveredDevices"] = []system.DeviceInfo{{Source: "cdi", ID: cdiPrefix + "all"}}
		}
	}
	if machine.ContainerdImages {
		info["DriverStatus"] = [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
	}
	containers, running := e.all(), 0
	for _, c := range containers {
		if c.snapshot().Running {
			running++
		}
	}
	e.mu.Lock()
	info["Images"] = len(e.local)
	e.mu.Unlock()
	info["Containers"], info["ContainersRunning"], info["ContainersStopped"] = len(containers), running, len(containers)-running
	info["SystemTime"] = timestamp(time.Now())
	return writeJSON(w, http.StatusOK, info)
}

// timestamp writes a time as the engine does: UTC, RFC 3339, nanoseconds.
func timestamp(t time.Time) string {
	if t.IsZero() {
		return "0001-01-01T00:00:00Z"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// event is what /events tells of a container, with the fields of older releases.
type event struct {
	events.Message

	ID     string `json:"id"`
	Status string `json:"status"`
}

// broadcaster hands events to whoever listens. A listener that does not keep up
// loses events rather than hold up the engine.
type broadcaster struct {
	mu        sync.Mutex
	listeners map[chan event]bool
}

func (b *broadcaster) subscribe() (told <-chan event, cancel func()) {
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
	maps.Copy(all, attributes)
	e.events.publish(event{ID: c.id, Status: action, Message: events.Message{
		Type: events.ContainerEventType, Action: events.Action(action), Actor: events.Actor{ID: c.id, Attributes: all},
		Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano(),
	}})
}

func (e *Engine) streamEvents(w http.ResponseWriter, req *http.Request) error {
	wanted, err := readFilters(req)
	if err != nil {
		return err
	}
	told, cancel := e.events.subscribe()
	defer cancel()
	out := newStream(w)
	for {
		select {
		case <-req.Context().Done():
			return nil
		case <-e.life.Done():
			return nil
		case ev := <-told:
			if wanted.any("event", func(v string) bool { return v == ev.Status }) &&
				wanted.any("type", func(v string) bool { return v == string(ev.Type) }) &&
				wanted.any("container", func(v string) bool { return v == ev.ID || v == ev.Actor.Attributes["name"] }) {
				out.send(ev)
			}
		}
	}
}
