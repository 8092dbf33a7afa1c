package engine

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"time"

	containertypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	volumetypes "github.com/moby/moby/api/types/volume"
)

// anonymous begins the name of a volume that nobody named.
const anonymous = "anonymous_"

// volume is a named volume. Nothing is stored in it: the stand-ins have no cache.
type volume struct {
	name    string
	labels  map[string]string
	created time.Time
}

var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

func volumePath(name string) string { return "/var/lib/docker/volumes/" + name + "/_data" }

func (v *volume) describe() volumetypes.Volume {
	return volumetypes.Volume{
		Name: v.name, Driver: "local", Scope: "local", Mountpoint: volumePath(v.name), CreatedAt: timestamp(v.created),
		Labels: v.labels, Options: map[string]string{},
	}
}

func (e *Engine) ensureVolume(name string, labels map[string]string) *volume {
	e.mu.Lock()
	defer e.mu.Unlock()
	if v, ok := e.volumes[name]; ok {
		return v
	}
	if labels == nil {
		labels = map[string]string{}
	}
	v := &volume{name, labels, time.Now()}
	e.volumes[name] = v
	return v
}

func (e *Engine) dropAnonymous(m containertypes.MountPoint) {
	if m.Type != mount.TypeVolume || len(m.Name) < len(anonymous) || m.Name[:len(anonymous)] != anonymous {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.volumes, m.Name)
}

func (e *Engine) createVolume(w http.ResponseWriter, req *http.Request) error {
	var body volumetypes.CreateRequest
	if err := readJSON(req, &body); err != nil {
		return err
	}
	if body.Name == "" {
		body.Name = newID()
	}
	if !volumeName.MatchString(body.Name) {
		return refusal(http.StatusBadRequest, "create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", body.Name, body.Name)
	}
	if body.Driver != "" && body.Driver != "local" {
		return refusal(http.StatusNotFound, "error looking up volume plugin %s: plugin %q not found", body.Driver, body.Driver)
	}
	return writeJSON(w, http.StatusCreated, e.ensureVolume(body.Name, body.Labels).describe())
}

func (e *Engine) listVolumes(w http.ResponseWriter, req *http.Request) error {
	wanted, err := readFilters(req)
	if err != nil {
		return err
	}
	out := volumetypes.ListResponse{Volumes: []volumetypes.Volume{}, Warnings: []string{}}
	e.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(e.volumes)) {
		v := e.volumes[name]
		if wanted.matchLabels(v.labels) && wanted.any("name", func(want string) bool { return matchName(want, name) }) {
			out.Volumes = append(out.Volumes, v.describe())
		}
	}
	e.mu.Unlock()
	return writeJSON(w, http.StatusOK, out)
}

func (e *Engine) volume(name string) (*volume, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if v, ok := e.volumes[name]; ok {
		return v, nil
	}
	return nil, refusal(http.StatusNotFound, "get %s: no such volume", name)
}

func (e *Engine) inspectVolume(w http.ResponseWriter, req *http.Request) error {
	v, err := e.volume(req.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, v.describe())
}

func (e *Engine) removeVolume(w http.ResponseWriter, req *http.Request) error {
	v, err := e.volume(req.PathValue("name"))
	if err != nil {
		return err
	}
	for _, c := range e.all() {
		for _, m := range c.mounts() {
			if m.Name == v.name {
				return refusal(http.StatusConflict, "remove %s: volume is in use - [%s]", v.name, c.id)
			}
		}
	}
	e.mu.Lock()
	delete(e.volumes, v.name)
	e.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// matchName is the engine's name filter: a regular expression found anywhere, with
// or without the leading slash.
func matchName(pattern, name string) bool {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return pattern == name
	}
	return re.MatchString(name) || re.MatchString("/"+name)
}
