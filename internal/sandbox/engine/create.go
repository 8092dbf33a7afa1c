package engine

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	containertypes "github.com/moby/moby/api/types/container"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// namePattern is the engine's (daemon/names).
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

const defaultShm = 64 << 20

func (e *Engine) create(w http.ResponseWriter, req *http.Request) error {
	body := containertypes.CreateRequest{}
	if err := readJSON(req, &body); err != nil {
		return err
	}
	if body.Config == nil || body.Config.Image == "" {
		return refusal(http.StatusBadRequest, "config cannot be empty in order to create a container")
	}
	if body.Config.Tty {
		return refusal(http.StatusBadRequest, "the sandbox's containers have no terminal")
	}
	if body.HostConfig == nil {
		body.HostConfig = &containertypes.HostConfig{}
	}
	name := strings.TrimPrefix(req.URL.Query().Get("name"), "/")
	if name != "" && !namePattern.MatchString(name) {
		return refusal(http.StatusBadRequest, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	img, err := e.localImage(body.Config.Image)
	if err != nil {
		return err
	}
	if err := checkHostConfig(body.HostConfig); err != nil {
		return err
	}
	if err := e.checkRuntime(body.HostConfig.Runtime); err != nil {
		return err
	}
	c, err := e.build(name, img, body.Config, body.HostConfig)
	if err != nil {
		return err
	}
	e.makeVolumes(c)
	return writeJSON(w, http.StatusCreated, containertypes.CreateResponse{ID: c.id, Warnings: []string{}})
}

func checkHostConfig(host *containertypes.HostConfig) error {
	if err := containertypes.ValidateRestartPolicy(host.RestartPolicy); err != nil {
		return refusal(http.StatusBadRequest, "%v", err)
	}
	switch {
	case host.AutoRemove && !host.RestartPolicy.IsNone():
		return refusal(http.StatusBadRequest, "can't create 'AutoRemove' container with restart policy")
	case host.ShmSize < 0:
		return refusal(http.StatusBadRequest, "SHM size can not be less than 0")
	case !host.IpcMode.Valid():
		return refusal(http.StatusBadRequest, "invalid IPC mode: %s", host.IpcMode)
	case host.NetworkMode.IsContainer():
		return refusal(http.StatusBadRequest, "the sandbox has no container network mode")
	}
	for _, bind := range host.Binds {
		parts := strings.Split(bind, ":")
		if len(parts) < 2 || len(parts) > 3 || !filepath.IsAbs(parts[1]) {
			return refusal(http.StatusBadRequest, "invalid volume specification: '%s'", bind)
		}
	}
	for port, bindings := range host.PortBindings {
		for _, binding := range bindings {
			if _, err := hostPort(binding.HostPort); err != nil {
				return refusal(http.StatusBadRequest, "invalid port specification for %s: %q", port, binding.HostPort)
			}
		}
	}
	return nil
}

func (e *Engine) checkRuntime(name string) error {
	known := []string{"", "runc", "io.containerd.runc.v2"}
	if hasNVIDIARuntime(e.facts()) {
		known = append(known, "nvidia")
	}
	if !slices.Contains(known, name) {
		return refusal(http.StatusBadRequest, "unknown or invalid runtime name: %s", name)
	}
	return nil
}

// build makes a container and its directory, and registers its name.
func (e *Engine) build(name string, img *image, config *containertypes.Config, host *containertypes.HostConfig) (*container, error) {
	c := &container{
		id: newID(), created: time.Now(), image: img, config: config, host: host, name: name, output: newLog(),
		turn: make(chan struct{}, 1), changed: make(chan struct{}), state: state{Status: containertypes.StateCreated},
	}
	c.name = cmp.Or(c.name, "sandbox_"+c.id[:8])
	c.dir = e.containerDir(c.id)
	fillConfig(c)
	if err := e.register(c); err != nil {
		return nil, err
	}
	for _, root := range []string{c.dir, filepath.Join(c.dir, vllmserver.LoopbackDir)} {
		if err := machinefs.Root(root).Create(); err != nil {
			e.forget(c)
			return nil, err
		}
	}
	return c, nil
}

// fillConfig sets the engine's defaults.
func fillConfig(c *container) {
	c.host.ShmSize = cmp.Or(c.host.ShmSize, defaultShm)
	if c.host.NetworkMode == "" || c.host.NetworkMode == "default" {
		c.host.NetworkMode = "bridge"
	}
	c.host.IpcMode = cmp.Or(c.host.IpcMode, containertypes.IPCModePrivate)
	c.host.LogConfig.Type = cmp.Or(c.host.LogConfig.Type, "json-file")
	c.host.RestartPolicy.Name = cmp.Or(c.host.RestartPolicy.Name, containertypes.RestartPolicyDisabled)
	c.host.Runtime = cmp.Or(c.host.Runtime, "runc")
	c.config.Hostname = cmp.Or(c.config.Hostname, c.id[:12])
	if c.config.Labels == nil {
		c.config.Labels = map[string]string{}
	}
	c.config.WorkingDir = cmp.Or(c.config.WorkingDir, "/vllm-workspace")
	if len(c.config.Entrypoint) == 0 {
		c.config.Entrypoint = c.image.entrypoint()
	}
	c.config.Env = mergeEnv(c.image.env(), c.config.Env)
	c.argv = append(slices.Clone(c.config.Entrypoint), c.config.Cmd...)
}

// mergeEnv adds to an environment what only the base has, as the engine does with the
// container's and the image's.
func mergeEnv(base, over []string) []string {
	merged := slices.Clone(over)
	set := map[string]bool{}
	for _, entry := range over {
		name, _, _ := strings.Cut(entry, "=")
		set[name] = true
	}
	for _, entry := range base {
		if name, _, _ := strings.Cut(entry, "="); !set[name] {
			merged = append(merged, entry)
		}
	}
	return merged
}

func (e *Engine) register(c *container) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if other, taken := e.names[c.name]; taken {
		return refusal(http.StatusConflict, "Conflict. The container name \"/%s\" is already in use by container \"%s\". You have to remove (or rename) that container to be able to reuse that name.", c.name, other)
	}
	e.names[c.name], e.containers[c.id] = c.id, c
	c.address = fmt.Sprintf("172.17.0.%d", e.nextIP%250+2)
	e.nextIP++
	return nil
}

// forget removes a container and its directory.
func (e *Engine) forget(c *container) {
	e.mu.Lock()
	delete(e.containers, c.id)
	if e.names[c.plainName()] == c.id {
		delete(e.names, c.plainName())
	}
	e.mu.Unlock()
	_ = os.RemoveAll(c.dir)
}
