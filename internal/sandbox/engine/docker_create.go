package engine

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	containertypes "github.com/moby/moby/api/types/container"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// object is JSON of which only some fields are looked at.
type object = map[string]any

// systemDirs are the computer's own programs and libraries, which containers can
// read: the image has nothing but the stand-in, which may need a C library, and
// people try things out in a container with a shell.
var systemDirs = []string{"/bin", "/usr", "/lib", "/lib64"}

// create makes a container of the real engine out of one that a machine was asked
// for. What it can't have there is played: its image is the stand-in, GPUs are
// variables of its environment, its network is the machine's.
func (d *docker) create(w http.ResponseWriter, req *http.Request) error {
	data, err := io.ReadAll(req.Body)
	if err != nil {
		return refusal(http.StatusBadRequest, "reading the request: %v", err)
	}
	var body containertypes.CreateRequest
	asked := object{}
	if json.Unmarshal(data, &body) != nil || json.Unmarshal(data, &asked) != nil {
		return refusal(http.StatusBadRequest, "invalid JSON")
	}
	if body.Config == nil || body.Config.Image == "" {
		return refusal(http.StatusBadRequest, "config cannot be empty in order to create a container")
	}
	if body.HostConfig == nil {
		body.HostConfig = &containertypes.HostConfig{}
	}
	name := strings.TrimPrefix(req.URL.Query().Get("name"), "/")
	if name != "" && !namePattern.MatchString(name) {
		return refusal(http.StatusBadRequest, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	if body.HostConfig.NetworkMode.IsContainer() {
		return refusal(http.StatusBadRequest, "the sandbox has no container network mode")
	}
	c, err := d.prepare(name, &body)
	if err != nil {
		return err
	}
	if err := d.createReal(req, c, asked); err != nil {
		_ = os.RemoveAll(c.dir)
		return err
	}
	return writeJSON(w, http.StatusCreated, containertypes.CreateResponse{ID: c.id, Warnings: []string{}})
}

// prepare is the container as the machine knows it, with its own network.
func (d *docker) prepare(name string, body *containertypes.CreateRequest) (*container, error) {
	e := d.engine
	img, err := e.localImage(body.Image)
	if err != nil {
		return nil, err
	}
	key := newID()
	c := &container{
		id: key, created: time.Now(), image: img, config: body.Config, host: body.HostConfig, name: first(name, "sandbox_"+key[:8]),
		dir: e.containerDir(key), turn: make(chan struct{}, 1), changed: make(chan struct{}),
		state: state{Status: containertypes.StateCreated},
	}
	fillConfig(c)
	for _, root := range []string{c.dir, filepath.Join(c.dir, vllmserver.LoopbackDir)} {
		if err := machinefs.Root(root).Create(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// createReal asks the real engine for the container, and takes its id over.
func (d *docker) createReal(req *http.Request, c *container, asked object) error {
	if err := d.translate(req, c, asked); err != nil {
		return err
	}
	path := "/containers/create?name=" + url.QueryEscape(d.prefix+c.name)
	status, data, err := d.call(req.Context(), http.MethodPost, path, asked)
	if err != nil {
		return err
	}
	var created struct{ ID string }
	if status != http.StatusCreated || json.Unmarshal(data, &created) != nil || created.ID == "" {
		return d.refused(status, data)
	}
	c.id = created.ID
	return d.engine.register(c)
}

// translate turns the request into the one for the real engine.
func (d *docker) translate(req *http.Request, c *container, asked object) error {
	gpus, err := d.engine.gpus(c)
	if err != nil {
		gpus = "none" // start says why
	}
	argv := c.argv
	if name := filepath.Base(argv[0]); name == "vllm" {
		argv = append([]string{programDir + "/vllm"}, argv[1:]...)
	} else if strings.HasPrefix(name, "python") && len(argv) > 2 && argv[1] == "-m" && strings.HasPrefix(argv[2], "vllm") {
		argv = append([]string{programDir + "/vllm"}, argv...)
	}
	asked["Image"], asked["Entrypoint"], asked["Cmd"], asked["WorkingDir"] = d.image, argv[:1], argv[1:], c.config.WorkingDir
	asked["Env"] = d.environment(c, gpus)
	asked["User"] = strconv.Itoa(os.Getuid()) + ":" + strconv.Itoa(os.Getgid()) // who may write in the machine's directory
	labels := object{machineLabel: string(d.engine.cfg.Root)}
	for name, value := range c.config.Labels {
		labels[name] = value
	}
	asked["Labels"] = labels
	delete(asked, "NetworkingConfig")
	host, ok := asked["HostConfig"].(object)
	if !ok {
		host = object{}
	}
	asked["HostConfig"] = host
	for _, name := range []string{"DeviceRequests", "PortBindings", "PublishAllPorts", "UsernsMode"} {
		delete(host, name)
	}
	if c.host.Runtime == "nvidia" && hasNVIDIARuntime(d.engine.facts()) {
		delete(host, "Runtime")
	}
	host["NetworkMode"], host["PidMode"] = "none", "host" // a process of the machine is known by its id
	return d.mount(req, c, host)
}

// environment is what the container's processes get.
func (d *docker) environment(c *container, gpus string) []string {
	env := slices.DeleteFunc(d.engine.environment(c, gpus, nil), func(entry string) bool { return strings.HasPrefix(entry, "PATH=") })
	return append(env, "PATH="+programDir+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

// mount gives the container the machine's directory, and makes its volumes and
// directories ones of the machine.
func (d *docker) mount(req *http.Request, c *container, host object) error {
	var mounts []any
	for _, dir := range append([]string{string(d.engine.cfg.Root)}, systemDirs...) {
		source, err := filepath.EvalSymlinks(dir)
		if err != nil {
			continue // this computer has none
		}
		mounts = append(mounts, object{"Type": "bind", "Source": source, "Target": dir, "ReadOnly": dir != string(d.engine.cfg.Root)})
	}
	binds := []string{}
	for _, bind := range c.host.Binds {
		source, rest, ok := strings.Cut(bind, ":")
		if ok {
			var err error
			if source, err = d.source(req, source); err != nil {
				return err
			}
			bind = source + ":" + rest
		}
		binds = append(binds, bind)
	}
	given, _ := host["Mounts"].([]any)
	for _, entry := range given {
		m, ok := entry.(object)
		if source, named := m["Source"].(string); ok && named && source != "" {
			mapped, err := d.source(req, source)
			if err != nil {
				return err
			}
			m["Source"] = mapped
		}
		mounts = append(mounts, entry)
	}
	host["Binds"], host["Mounts"] = binds, mounts
	return nil
}

// source is where the real engine finds a volume or a directory of the machine.
// It is made when it doesn't exist. No directory outside the machine's is used.
func (d *docker) source(req *http.Request, name string) (string, error) {
	root := string(d.engine.cfg.Root)
	if !filepath.IsAbs(name) {
		volume := object{"Name": d.prefix + name, "Labels": object{machineLabel: root}}
		status, data, err := d.call(req.Context(), http.MethodPost, "/volumes/create", volume)
		if err == nil && status >= http.StatusBadRequest {
			err = d.refused(status, data)
		}
		return d.prefix + name, err
	}
	dir := filepath.Clean(name)
	if dir != root && !strings.HasPrefix(dir, root+"/") {
		dir = filepath.Join(root, "disk", dir)
	}
	return dir, os.MkdirAll(dir, 0o700)
}
