package engine

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"
	containertypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"
)

func (e *Engine) inspect(w http.ResponseWriter, req *http.Request, c *container) error {
	c.mu.Lock()
	s, name, restarts, host := c.state, c.name, c.restarts, *c.host
	ports := c.portMap()
	c.mu.Unlock()
	out := containertypes.InspectResponse{
		ID: c.id, Created: timestamp(c.created), Path: c.argv[0], Args: c.argv[1:], Image: c.image.id, Name: "/" + name,
		RestartCount: restarts, Driver: "overlay2", Platform: "linux", LogPath: "/var/lib/docker/containers/" + c.id + "/" + c.id + "-json.log",
		HostConfig: &host, Config: c.config, Mounts: c.mounts(),
		State: &containertypes.State{
			Status: s.Status, Running: s.Running, Restarting: s.Restarting, OOMKilled: s.OOMKilled, Pid: s.PID,
			ExitCode: s.ExitCode, Error: s.Error, StartedAt: timestamp(s.StartedAt), FinishedAt: timestamp(s.FinishedAt),
		},
		NetworkSettings: &containertypes.NetworkSettings{
			SandboxID: c.id, Ports: ports,
			Networks: map[string]*network.EndpointSettings{string(c.host.NetworkMode): c.endpoint(s)},
		},
	}
	return writeJSON(w, http.StatusOK, out)
}

func (c *container) endpoint(s state) *network.EndpointSettings {
	if c.host.NetworkMode.IsHost() || !s.Running {
		return &network.EndpointSettings{}
	}
	address, _ := netip.ParseAddr(c.address) // it is the engine's own
	return &network.EndpointSettings{
		NetworkID: "bridge", EndpointID: c.id,
		IPAddress: address, IPPrefixLen: 16, Gateway: netip.AddrFrom4([4]byte{172, 17, 0, 1}),
	}
}

// mounts are the binds and volumes as inspect shows them.
func (c *container) mounts() []containertypes.MountPoint {
	list := []containertypes.MountPoint{}
	for _, bind := range c.host.Binds {
		parts := strings.Split(bind, ":")
		m := containertypes.MountPoint{
			Type: mount.TypeBind, Source: parts[0], Destination: parts[1], RW: true, Propagation: mount.PropagationRPrivate,
		}
		if len(parts) > 2 {
			m.Mode, m.RW = parts[2], parts[2] != "ro"
		}
		if !strings.HasPrefix(parts[0], "/") {
			m.Type, m.Name, m.Source, m.Driver, m.Propagation = mount.TypeVolume, parts[0], volumePath(parts[0]), "local", ""
		}
		list = append(list, m)
	}
	for _, in := range c.host.Mounts {
		m := containertypes.MountPoint{Type: in.Type, Source: in.Source, Destination: in.Target, RW: !in.ReadOnly}
		if in.Type == mount.TypeVolume {
			m.Name, m.Source, m.Driver = in.Source, volumePath(in.Source), "local"
		}
		list = append(list, m)
	}
	return list
}

// volumePath is where Docker keeps a volume. Here nothing is stored in one: the stand-ins have no cache.
func volumePath(name string) string { return "/var/lib/docker/volumes/" + name + "/_data" }

// makeVolumes makes the volumes that a container mounts and that don't exist yet. Nothing removes them.
func (e *Engine) makeVolumes(c *container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range c.mounts() {
		if _, exists := e.volumes[m.Name]; m.Type == mount.TypeVolume && !exists {
			e.volumes[m.Name] = time.Now()
		}
	}
}

func (e *Engine) listVolumes(w http.ResponseWriter, _ *http.Request) error {
	list := []volume.Volume{}
	e.mu.Lock()
	for name, created := range e.volumes {
		list = append(list, volume.Volume{
			Name: name, Driver: "local", Scope: "local", Mountpoint: volumePath(name), CreatedAt: timestamp(created),
			Labels: map[string]string{},
		})
	}
	e.mu.Unlock()
	return writeJSON(w, http.StatusOK, volume.ListResponse{Volumes: list, Warnings: []string{}})
}

func (e *Engine) list(w http.ResponseWriter, req *http.Request) error {
	wanted, err := readFilters(req)
	if err != nil {
		return err
	}
	everything := flag(req, "all") || wanted["status"] != nil
	list := []containertypes.Summary{}
	for _, c := range e.all() {
		s := c.snapshot()
		if (everything || s.Running) && wanted.matchContainer(c, s) {
			list = append(list, c.summary(s))
		}
	}
	return writeJSON(w, http.StatusOK, list)
}

func (f filters) matchContainer(c *container, s state) bool {
	name := c.plainName()
	return f.matchLabels(c.config.Labels) &&
		f.any("name", func(v string) bool { return matchName(v, name) }) &&
		f.any("status", func(v string) bool { return v == string(s.Status) })
}

// matchName is the engine's name filter, a regular expression that matches anywhere, with
// or without the leading slash.
func matchName(pattern, name string) bool {
	re, err := regexp.Compile(pattern)
	return err == nil && (re.MatchString(name) || re.MatchString("/"+name))
}

func (c *container) summary(s state) containertypes.Summary {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := containertypes.Summary{
		ID: c.id, Names: []string{"/" + c.name}, Image: c.config.Image, ImageID: c.image.id, Command: strings.Join(c.argv, " "), Created: c.created.Unix(),
		Labels: c.config.Labels, State: s.Status, Status: statusText(s), Ports: []containertypes.PortSummary{}, Mounts: c.mounts(),
		NetworkSettings: &containertypes.NetworkSettingsSummary{
			Networks: map[string]*network.EndpointSettings{string(c.host.NetworkMode): c.endpoint(s)},
		},
	}
	out.HostConfig.NetworkMode = string(c.host.NetworkMode)
	for _, p := range c.ports {
		out.Ports = append(out.Ports, containertypes.PortSummary{
			IP: p.ip, PrivatePort: p.inner.Num(), PublicPort: uint16(p.outer), Type: "tcp", // hostPort checked it
		})
	}
	return out
}

// statusText is the line that `docker ps` shows.
func statusText(s state) string {
	ago := func(t time.Time) string { return units.HumanDuration(time.Since(t)) }
	switch s.Status {
	case containertypes.StateRunning:
		return "Up " + ago(s.StartedAt)
	case containertypes.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, ago(s.FinishedAt))
	case containertypes.StateExited:
		return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, ago(s.FinishedAt))
	case containertypes.StateCreated, containertypes.StatePaused, containertypes.StateRemoving, containertypes.StateDead:
	}
	return "Created"
}

func (e *Engine) update(w http.ResponseWriter, req *http.Request, c *container) error {
	if release := e.podman(); release != "" && !canUpdate(release) {
		return refusal(http.StatusNotFound, "Not Found")
	}
	var body containertypes.UpdateConfig
	if err := readJSON(req, &body); err != nil {
		return err
	}
	if err := containertypes.ValidateRestartPolicy(body.RestartPolicy); err != nil {
		return refusal(http.StatusBadRequest, "%v", err)
	}
	if c.host.AutoRemove && !body.RestartPolicy.IsNone() {
		return refusal(http.StatusBadRequest, "Restart policy cannot be updated because AutoRemove is enabled for the container")
	}
	if body.RestartPolicy.Name != "" {
		c.mu.Lock()
		c.host.RestartPolicy = body.RestartPolicy
		c.mu.Unlock()
	}
	return writeJSON(w, http.StatusOK, containertypes.UpdateResponse{Warnings: []string{}})
}

func (e *Engine) rename(w http.ResponseWriter, req *http.Request, c *container) error {
	name := strings.TrimPrefix(req.URL.Query().Get("name"), "/")
	if !namePattern.MatchString(name) {
		return refusal(http.StatusBadRequest, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	e.mu.Lock()
	other, taken := e.names[name]
	if !taken {
		delete(e.names, c.plainName())
		e.names[name] = c.id
	}
	e.mu.Unlock()
	if taken {
		return refusal(http.StatusConflict, "Conflict. The container name \"/%s\" is already in use by container \"%s\". You have to remove (or rename) that container to be able to reuse that name.", name, other)
	}
	c.mu.Lock()
	c.name = name
	c.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func parseSignal(text string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n), nil
	}
	if sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")); sig != 0 {
		return sig, nil
	}
	return 0, refusal(http.StatusBadRequest, "invalid signal: %s", text)
}
