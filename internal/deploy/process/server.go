package process

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Placeholders for the paths of a server's certificate and key: Start replaces them in the arguments by files in the server's
// directory, whose name is not known before.
const (
	tlsCertificatePath = "{directory}/server.crt"
	tlsKeyPath         = "{directory}/server.key"
)

// Start starts a server with the host's vLLM. If it fails after it has written something, it returns the reference too.
func (h *Host) Start(ctx context.Context, wanted deploy.Wanted) (deploy.Ref, error) {
	ref := deploy.Ref{Runtime: deploy.Process, Name: wanted.Name, Owner: wanted.Owner, Port: wanted.Port, Listen: wanted.Listen}
	attempt := make([]byte, 4)
	if _, err := rand.Read(attempt); err != nil {
		return ref, &deploy.Error{Summary: "could not name the server's directory", Err: err}
	}
	ref.Directory = path.Join(h.base, "servers", wanted.Name+"."+hex.EncodeToString(attempt))
	wanted.Arguments = slices.Clone(wanted.Arguments)
	for i, argument := range wanted.Arguments {
		if argument == tlsCertificatePath || argument == tlsKeyPath {
			wanted.Arguments[i] = path.Join(ref.Directory, path.Base(argument))
		}
	}
	text, err := newRecord(wanted, h.Program.Path)
	if err != nil {
		return ref, &deploy.Error{Summary: "could not write the server's record", Err: err}
	}
	// From here on Find finds the server by its owner, even if this connection is lost.
	if err := h.put(ctx, ref.Directory, "record.json", text); err != nil {
		return ref, err
	}
	files := append(portsFile(h.Program.Release, wanted.Listen), file{"launcher.sh", launcherScript})
	if wanted.Certificate != "" {
		files = append(files, file{path.Base(tlsCertificatePath), wanted.Certificate}, file{path.Base(tlsKeyPath), wanted.Key})
	}
	ref.ID, err = h.launch(ctx, ref.Directory, files, wanted.Environment, append([]string{h.Program.Path}, wanted.Arguments...)...)
	return ref, err
}

// State is Inspect, which takes one command.
func (h *Host) State(ctx context.Context, ref deploy.Ref) (deploy.Status, error) {
	return h.Inspect(ctx, ref)
}

// observe returns what the launcher reports about the program of a directory.
func (h *Host) observe(ctx context.Context, what, directory string) (observed, error) {
	op := "inspect the " + what
	output, err := h.run(ctx, op, launcherScript, "status", directory)
	seen := parseStatus(output)
	if err == nil && seen.state == "" {
		err = &deploy.Error{Summary: "could not " + op, Cause: "The machine's answer could not be decoded.", Err: fmt.Errorf("%.200q", output)}
	}
	return seen, err
}

// Inspect returns a server's status. A server whose directory is missing, or has another server's identity, is [deploy.Gone].
func (h *Host) Inspect(ctx context.Context, ref deploy.Ref) (deploy.Status, error) {
	seen, err := h.observe(ctx, "server "+ref.Name, ref.Directory)
	if err != nil {
		return deploy.Status{}, err
	}
	if seen.state == deploy.Gone || (ref.ID != "" && seen.id != ref.ID) {
		return deploy.Status{Ref: ref, State: deploy.Gone}, nil
	}
	ref.ID = seen.id
	return seen.status(ref), nil
}

// Find lists the owner's servers, running or not.
func (h *Host) Find(ctx context.Context, owner string) ([]deploy.Status, error) {
	return h.list(ctx, func(r record) bool { return r.Owner == owner })
}

// Named implements [deploy.Runtime]. Of several servers with the name it returns one that runs, if any.
func (h *Host) Named(ctx context.Context, name string) (deploy.Status, error) {
	found, err := h.list(ctx, func(r record) bool { return r.Name == name })
	if err != nil || len(found) == 0 {
		return deploy.Status{State: deploy.Gone}, err
	}
	return found[max(0, slices.IndexFunc(found, func(s deploy.Status) bool { return s.State.Alive() }))], nil
}

// APIKey returns the API key in a running server's environment, "" for none.
func (h *Host) APIKey(ctx context.Context, ref deploy.Ref) (string, error) {
	environment, err := h.environment(ctx, ref, []string{vllm.EnvAPIKey})
	return environment[vllm.EnvAPIKey], err
}

func (h *Host) list(ctx context.Context, matches func(record) bool) ([]deploy.Status, error) {
	output, err := h.run(ctx, "look for servers", launcherScript, "list", h.base)
	if err != nil {
		return nil, err
	}
	var found []deploy.Status
	for _, seen := range parseList(h.base, output) {
		if matches(seen.record) {
			found = append(found, seen.status(deploy.Ref{ID: seen.id, Directory: seen.directory}))
		}
	}
	return found, nil
}

// Log returns the last lines of a server's log.
func (h *Host) Log(ctx context.Context, ref deploy.Ref, lines int) ([]string, error) {
	return h.tail(ctx, path.Join(ref.Directory, "log"), lines)
}

// followScript prints a log as it grows, until its standard input ends.
const followScript = `tail -n "$2" -f -- "$1" & cat >/dev/null; kill $!`

// Follow implements [deploy.Runtime].
func (h *Host) Follow(ctx context.Context, ref deploy.Ref, lines int) (io.ReadCloser, error) {
	file := path.Join(ref.Directory, "log")
	conn, err := h.machine.Pipe(ctx, "sh", "-c", followScript, "sh", file, strconv.Itoa(max(lines, 1)))
	if err != nil {
		return nil, deploy.Failed(ctx, "follow the log "+file, err)
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return conn, nil
}

// Settle makes the supervisor restart the server when it dies.
func (h *Host) Settle(ctx context.Context, ref deploy.Ref) error {
	return h.put(ctx, ref.Directory, "settled", "")
}

// Remove ends the server's whole session, waits until its GPU memory is released, and removes its directory. Memory that is not
// released is no error, because no process is left that could be ended: the note says so. It also names firewall rules that are left.
func (h *Host) Remove(ctx context.Context, ref deploy.Ref, stop deploy.Stop) (note string, err error) {
	status, inspectErr := h.Inspect(ctx, ref)
	if inspectErr == nil && status.State == deploy.Gone {
		return "", nil
	}
	rules, err := h.end(ctx, ref.Directory, stop)
	if err != nil {
		return "", errors.Join(err, inspectErr)
	}
	memory := ""
	if status.State.Alive() {
		memory = h.awaitMemory(ctx, status.HeldBefore)
	}
	if rules != "" && memory != "" {
		rules += ", and "
	}
	return rules + memory, h.remove(ctx, ref.Directory)
}

// Restart sets the server aside and restores it.
func (h *Host) Restart(ctx context.Context, ref deploy.Ref, stop deploy.Stop) (deploy.Ref, error) {
	aside, err := h.SetAside(ctx, ref, stop)
	if aside.Restore == nil || (err != nil && !deploy.Lost(h.machine, err)) {
		return ref, err
	}
	// If the answer to the stop was lost, go on: the server may have stopped, and then its secrets are only in this process.
	restored, err := aside.Restore(ctx)
	if err != nil && ctx.Err() == nil && deploy.Lost(h.machine, err) {
		restored, err = aside.Restore(ctx)
	}
	return restored, err
}

// SetAside stops a server, waits until its GPU memory is released for the next one, and keeps in this process's memory what a
// restart takes: the server's secrets are nowhere else.
func (h *Host) SetAside(ctx context.Context, ref deploy.Ref, stop deploy.Stop) (deploy.Aside, error) {
	seen, err := h.observe(ctx, "server "+ref.Name, ref.Directory)
	if err != nil {
		return deploy.Aside{}, err
	}
	runs := seen.state == deploy.Running || seen.state == deploy.Orphaned
	aside := deploy.Aside{Ref: ref, WasRunning: runs && seen.id == ref.ID, Arguments: seen.record.Arguments}
	var environment map[string]string
	if aside.WasRunning {
		if environment, err = h.environment(ctx, ref, seen.record.Names); err != nil {
			return aside, err
		}
		aside.APIKey = environment[vllm.EnvAPIKey]
	}
	aside.Restore = func(ctx context.Context) (deploy.Ref, error) {
		if !aside.WasRunning {
			return ref, &deploy.Error{Summary: "could not start the server " + ref.Name + " again", Cause: "It wasn't running, so its" +
				" secrets are lost."}
		}
		// The stop, or an earlier start, may have taken effect only partly if its answer was lost: end what runs first.
		if _, err := h.end(ctx, ref.Directory, deploy.Stop{}); err != nil {
			return ref, err
		}
		restored := ref
		var err error
		command := append([]string{seen.record.Program}, seen.record.Arguments...)
		restored.ID, err = h.launch(ctx, ref.Directory, nil, environment, command...)
		return restored, err
	}
	_, err = h.end(ctx, ref.Directory, stop) // Remove reports firewall rules that are left
	if err == nil && seen.state.Alive() && seen.id == ref.ID {
		_ = h.awaitMemory(ctx, seen.record.HeldBefore) // the next server's log reports memory that is not released
	}
	return aside, err
}

// environment reads a running server's variables from /proc, which shows them only to the server's user and root.
func (h *Host) environment(ctx context.Context, ref deploy.Ref, names []string) (map[string]string, error) {
	op := "read the environment of the server " + ref.Name
	output, err := h.run(ctx, op, launcherScript, "environment", ref.Directory)
	if err != nil {
		return nil, err
	}
	environment := variablesOf(output, names, "") // an orphan is the server itself, whose variables have no prefix
	maps.Copy(environment, variablesOf(output, names, variablePrefix))
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, found := environment[name]; return found })
	if len(missing) > 0 {
		return nil, &deploy.Error{Summary: "could not " + op, Cause: fmt.Sprintf("%d of its %d variables (%s) are missing.", len(missing), len(names),
			strings.Join(missing, ", "))}
	}
	return environment, nil
}

// variablesOf returns the variables PREFIX+NAME of an environment in the kernel's form, by NAME.
func variablesOf(environ string, names []string, prefix string) map[string]string {
	found := map[string]string{}
	for entry := range strings.SplitSeq(environ, "\x00") {
		variable, value, _ := strings.Cut(entry, "=")
		if name, ok := strings.CutPrefix(variable, prefix); ok && slices.Contains(names, name) {
			found[name] = value
		}
	}
	return found
}

const (
	// memoryTime is how long a GPU may take to release the memory of a process that has ended.
	memoryTime = 20 * time.Second
	// memorySlackMiB is by how much a driver's figures may vary.
	memorySlackMiB = 512
)

// awaitMemory waits until no more GPU memory is in use than before the start, without what living processes hold. It returns what
// has not been released, "" for nothing or where nvidia-smi reports no figures.
func (h *Host) awaitMemory(ctx context.Context, before []int) string {
	ctx, cancel := context.WithTimeout(ctx, memoryTime)
	defer cancel()
	pause := pace.Looks()
	for {
		held := h.heldMemory(ctx, before)
		if held == "" {
			return ""
		}
		if pause.Wait(ctx) != nil {
			return "none of its processes, but GPU memory that has not been released: " + held
		}
	}
}

// heldMemory is what awaitMemory waits for, "" for nothing.
func (h *Host) heldMemory(ctx context.Context, before []int) string {
	gpus, err := deploy.QueryGPUs(ctx, h.machine)
	if err != nil || heldSince(gpus, before) == "" {
		return ""
	}
	users, _ := deploy.QueryGPUUsers(ctx, h.machine) // inside a container it may list none
	for _, user := range users {
		if at := slices.IndexFunc(gpus, func(gpu deploy.GPU) bool { return gpu.UUID == user.GPU }); at >= 0 {
			gpus[at].UsedMiB -= user.MiB
		}
	}
	return heldSince(gpus, before)
}

// heldSince lists the GPUs on which more memory is in use than before, "" for none.
func heldSince(gpus []deploy.GPU, before []int) string {
	var held []string
	for i, gpu := range gpus {
		if i < len(before) && gpu.UsedMiB > before[i]+memorySlackMiB {
			held = append(held, fmt.Sprintf("GPU %d holds %d MiB, %d before the start", gpu.Index, gpu.UsedMiB, before[i]))
		}
	}
	return strings.Join(held, ", ")
}
