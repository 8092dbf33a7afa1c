package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	containertypes "github.com/moby/moby/api/types/container"
)

// routes are those that the real engine answers, in place of the stand-in's.
func (d *docker) routes() map[string]route {
	table := map[string]route{
		"GET /_ping": d.same, "HEAD /_ping": d.same, "GET /version": d.same, "GET /info": d.info, "GET /events": d.events,
		"POST /containers/create": d.create, "GET /containers/json": d.list, "GET /containers/{id}/json": d.inspect,
		"POST /containers/{id}/start": d.start, "POST /containers/{id}/restart": d.start, "POST /containers/{id}/stop": d.stop,
		"POST /containers/{id}/rename": d.rename, "DELETE /containers/{id}": d.removeContainer,
		"POST /exec/{id}/start": d.same, "POST /exec/{id}/resize": d.same, "GET /exec/{id}/json": d.same,
		"POST /volumes/create": d.createVolume, "GET /volumes": d.listVolumes,
		"GET /volumes/{name}": d.volume, "DELETE /volumes/{name}": d.volume,
	}
	for _, plain := range []string{"GET logs", "POST kill", "POST wait", "POST update", "POST attach", "POST resize", "POST exec", "PUT archive"} {
		method, last, _ := strings.Cut(plain, " ")
		table[method+" /containers/{id}/"+last] = func(w http.ResponseWriter, req *http.Request) error {
			c, err := d.engine.find(req.PathValue("id"))
			if err == nil {
				d.pass(w, req, "/containers/"+c.id+"/"+last)
			}
			return err
		}
	}
	return table
}

// same forwards a request that says nothing that has another name here.
func (d *docker) same(w http.ResponseWriter, req *http.Request) error {
	d.pass(w, req, req.URL.Path)
	return nil
}

// info is the real engine's, with the runtime for the GPUs that are played.
func (d *docker) info(w http.ResponseWriter, req *http.Request) error {
	info := object{}
	if _, err := d.get(req.Context(), "/info", &info); err != nil {
		return err
	}
	runtimes, ok := info["Runtimes"].(object)
	if !ok {
		runtimes = object{}
	}
	delete(runtimes, "nvidia")
	if hasNVIDIARuntime(d.engine.facts()) {
		runtimes["nvidia"] = object{"path": "nvidia-container-runtime"}
	}
	if !d.engine.facts().NoGPURuntime {
		info["DiscoveredDevices"] = []any{object{"Source": "cdi", "ID": cdiPrefix + "all"}}
	}
	info["Runtimes"] = runtimes
	return writeJSON(w, http.StatusOK, info)
}

// start starts or restarts a container. A GPU that it can't have, or a port of the
// machine that is taken, is refused as the stand-in does it: the real engine has
// neither.
func (d *docker) start(w http.ResponseWriter, req *http.Request) error {
	e := d.engine
	c, release, err := e.locked(req)
	if err != nil {
		return err
	}
	defer release()
	_, err = e.gpus(c)
	var ports []*publishedPort
	if running, _ := d.running(req.Context(), c); !running && err == nil {
		ports, err = e.publish(c)
	}
	if err != nil {
		var known *apiError
		if errors.As(err, &known) {
			c.change(func(s *state) { s.Error, s.ExitCode = known.message, 128 })
		}
		return err
	}
	if len(ports) > 0 {
		c.mu.Lock()
		c.ports = ports
		c.mu.Unlock()
	}
	if e.cfg.Record != nil {
		e.cfg.Record(slices.Clone(c.argv))
	}
	d.pass(w, req, "/containers/"+c.id+req.URL.Path[strings.LastIndex(req.URL.Path, "/"):])
	d.settle(context.WithoutCancel(req.Context()), c)
	return nil
}

func (d *docker) stop(w http.ResponseWriter, req *http.Request) error {
	c, release, err := d.engine.locked(req)
	if err != nil {
		return err
	}
	defer release()
	d.pass(w, req, "/containers/"+c.id+"/stop")
	d.settle(context.WithoutCancel(req.Context()), c)
	return nil
}

// running asks the real engine for a container's state.
func (d *docker) running(ctx context.Context, c *container) (running, exists bool) {
	var found struct {
		State struct{ Running, Restarting bool }
	}
	status, err := d.get(ctx, "/containers/"+c.id+"/json", &found)
	return err == nil && found.State.Running && !found.State.Restarting, status != http.StatusNotFound
}

// settle opens or closes a container's ports as its state wants it, and forgets a
// container that is gone.
func (d *docker) settle(ctx context.Context, c *container) {
	running, exists := d.running(ctx, c)
	if !exists {
		d.engine.forget(c)
	}
	if !running {
		d.engine.unpublish(c.takePorts())
		return
	}
	c.mu.Lock()
	open := len(c.ports) > 0
	c.mu.Unlock()
	if open {
		return
	}
	if opened, err := d.engine.publish(c); err == nil {
		c.mu.Lock()
		c.ports = opened
		c.mu.Unlock()
	}
}

// watch keeps the machine's ports right while containers come and go by
// themselves. It returns when the engine is closed.
func (d *docker) watch() {
	ctx := d.engine.life
	address := "http://docker/v" + d.api + "/events?" + filtered(machineLabel+"="+string(d.engine.cfg.Root))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return
	}
	resp, err := d.web.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	events := json.NewDecoder(resp.Body)
	for {
		var event struct{ Type, Action, ID string }
		if events.Decode(&event) != nil {
			return
		}
		if event.Type != "container" || !slices.Contains([]string{"start", "die", "destroy"}, event.Action) {
			continue
		}
		if c, err := d.engine.find(event.ID); err == nil && c.acquire(ctx) == nil {
			d.settle(ctx, c)
			c.release()
		}
	}
}

func (d *docker) rename(w http.ResponseWriter, req *http.Request) error {
	e := d.engine
	c, release, err := e.locked(req)
	if err != nil {
		return err
	}
	defer release()
	name := strings.TrimPrefix(req.URL.Query().Get("name"), "/")
	if !namePattern.MatchString(name) {
		return refusal(http.StatusBadRequest, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	status, data, err := d.call(req.Context(), http.MethodPost, "/containers/"+c.id+"/rename?name="+url.QueryEscape(d.prefix+name), nil)
	if err != nil {
		return err
	}
	if status >= http.StatusBadRequest {
		return d.refused(status, data)
	}
	e.mu.Lock()
	delete(e.names, c.plainName())
	e.names[name] = c.id
	e.mu.Unlock()
	c.mu.Lock()
	c.name = name
	c.mu.Unlock()
	w.WriteHeader(status)
	return nil
}

func (d *docker) removeContainer(w http.ResponseWriter, req *http.Request) error {
	c, release, err := d.engine.locked(req)
	if err != nil {
		return err
	}
	defer release()
	d.pass(w, req, "/containers/"+c.id)
	d.settle(context.WithoutCancel(req.Context()), c)
	return nil
}

// crash kills a container's process as if it had crashed. A kill by the API would
// be somebody's wish, after which no policy restarts it.
func (d *docker) crash(c *container) error {
	var found struct{ State struct{ Pid int } }
	if _, err := d.get(d.engine.life, "/containers/"+c.id+"/json", &found); err != nil {
		return err
	}
	if found.State.Pid <= 0 {
		return errors.New("container " + c.plainName() + " is not running")
	}
	return syscall.Kill(found.State.Pid, syscall.SIGKILL)
}

// inspect is the real engine's answer, with what was asked for in place of what
// that became.
func (d *docker) inspect(w http.ResponseWriter, req *http.Request) error {
	c, err := d.engine.find(req.PathValue("id"))
	if err != nil {
		return err
	}
	found := object{}
	if _, err := d.get(req.Context(), "/containers/"+c.id+"/json", &found); err != nil {
		return err
	}
	c.mu.Lock()
	failed := c.state
	asked := containertypes.InspectResponse{
		Config: c.config, HostConfig: c.host, Mounts: c.mounts(),
		NetworkSettings: &containertypes.NetworkSettings{Ports: c.portMap()},
	}
	c.mu.Unlock()
	given, err := toObject(asked)
	if err != nil {
		return err
	}
	replace(found["Config"], given["Config"], "Image", "Env", "Entrypoint", "Cmd", "User", "Labels")
	replace(found["HostConfig"], given["HostConfig"], "NetworkMode", "PidMode", "Binds", "Mounts", "DeviceRequests", "PortBindings", "Runtime", "UsernsMode")
	replace(found["NetworkSettings"], given["NetworkSettings"], "Ports")
	replace(found, given, "Mounts")
	found["Name"], found["Path"], found["Args"], found["Image"] = "/"+c.plainName(), c.argv[0], c.argv[1:], c.image.id
	if state, ok := found["State"].(object); ok && failed.Error != "" && state["Status"] == string(containertypes.StateCreated) && state["Error"] == "" {
		state["Error"], state["ExitCode"] = failed.Error, failed.ExitCode
	}
	return writeJSON(w, http.StatusOK, found)
}

func toObject(v any) (object, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	out := object{}
	err = json.Unmarshal(data, &out)
	return out, err
}

// replace takes fields of one object from another.
func replace(in, from any, names ...string) {
	to, ok := in.(object)
	source, known := from.(object)
	if !ok || !known {
		return
	}
	for _, name := range names {
		delete(to, name)
		if value, given := source[name]; given {
			to[name] = value
		}
	}
}

// list is the real engine's, of this machine's containers. Names are filtered
// here, where they are what the machine knows.
func (d *docker) list(w http.ResponseWriter, req *http.Request) error {
	wanted, err := readFilters(req)
	if err != nil {
		return err
	}
	query := req.URL.Query()
	query.Del("filters")
	query.Set("filters", d.own(wanted, "name", "ancestor"))
	var found []object
	if _, err := d.get(req.Context(), "/containers/json?"+query.Encode(), &found); err != nil {
		return err
	}
	out := []object{}
	for _, entry := range found {
		id, _ := entry["Id"].(string)
		c, err := d.engine.find(id)
		if err != nil {
			continue // just made, or just removed
		}
		named := wanted.any("name", func(v string) bool { return matchName(v, c.plainName()) })
		made := wanted.any("ancestor", func(v string) bool { return parseRef(v).String() == c.image.ref.String() || v == c.image.ref.name })
		if !named || !made {
			continue
		}
		asked, err := toObject(c.summary(c.snapshot()))
		if err != nil {
			return err
		}
		replace(entry, asked, "Names", "Image", "ImageID", "Command", "Labels", "Ports", "Mounts")
		replace(entry["HostConfig"], asked["HostConfig"], "NetworkMode")
		out = append(out, entry)
	}
	return writeJSON(w, http.StatusOK, out)
}

// own writes filters, without some terms, for what this machine has.
func (d *docker) own(wanted filters, without ...string) string {
	mine := filters{}
	for term, values := range wanted {
		if !slices.Contains(without, term) {
			mine[term] = values
		}
	}
	mine["label"] = append(slices.Clone(mine["label"]), machineLabel+"="+string(d.engine.cfg.Root))
	data, _ := json.Marshal(mine) // strings always can be
	return string(data)
}

// events are the real engine's, of this machine.
func (d *docker) events(w http.ResponseWriter, req *http.Request) error {
	wanted, err := readFilters(req)
	if err != nil {
		return err
	}
	query := req.URL.Query()
	query.Set("filters", d.own(wanted))
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	defer context.AfterFunc(d.engine.life, cancel)() //nolint:contextcheck // what ends first, the request or the engine
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/v"+d.api+"/events?"+query.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := d.web.Do(ask)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		data, _ := io.ReadAll(io.LimitReader(resp.Body, maxDockerAnswer)) // its status says enough
		return d.refused(resp.StatusCode, data)
	}
	out := newStream(w)
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		event := object{}
		if json.Unmarshal([]byte(d.plain(lines.Text())), &event) != nil {
			continue
		}
		if actor, ok := event["Actor"].(object); ok {
			if attributes, ok := actor["Attributes"].(object); ok {
				maps.DeleteFunc(attributes, func(name string, _ any) bool { return name == machineLabel })
			}
		}
		out.send(event)
	}
	return nil
}
