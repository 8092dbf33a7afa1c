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

// stopGrace is how many seconds a server has to end by itself.
const stopGrace = 20

// Where a server's certificate and its key are: arguments that are exactly these become files of the server's
// own directory, whose name is not known before.
const (
	tlsCertificatePath = "{directory}/server.crt"
	tlsKeyPath         = "{directory}/server.key"
)

// withPaths puts the server's directory into its arguments.
func withPaths(arguments []string, directory string) []string {
	arguments = slices.Clone(arguments)
	for i, argument := range arguments {
		if argument == tlsCertificatePath || argument == tlsKeyPath {
			arguments[i] = path.Join(directory, path.Base(argument))
		}
	}
	return arguments
}

// Start starts a server with the host's vLLM. Where it fails after something was written, the reference is returned
// with the error.
func (h *Host) Start(ctx context.Context, wanted deploy.Wanted) (deploy.Ref, error) {
	ref := deploy.Ref{Runtime: deploy.Process, Name: wanted.Name, Owner: wanted.Owner, Port: wanted.Port, Listen: wanted.Listen}
	attempt := make([]byte, 4)
	if _, err := rand.Read(attempt); err != nil {
		return ref, &deploy.Error{Summary: "could not name the server's directory", Err: err}
	}
	ref.Directory = path.Join(h.base, "servers", wanted.Name+"."+hex.EncodeToString(attempt))
	wanted.Arguments = withPaths(wanted.Arguments, ref.Directory)
	text, err := newRecord(wanted, h.Program.Path).text()
	if err != nil {
		return ref, &deploy.Error{Summary: "could not write the server's record", Err: err}
	}
	// From the record on, the server is found by its owner, whatever happens to this connection.
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

// State is Inspect: a status is one command.
func (h *Host) State(ctx context.Context, ref deploy.Ref) (deploy.Status, error) {
	return h.Inspect(ctx, ref)
}

// Inspect says what a server is doing. One whose directory, or whose identity, is another's or nobody's is [deploy.Gone].
func (h *Host) Inspect(ctx context.Context, ref deploy.Ref) (deploy.Status, error) {
	output, err := h.run(ctx, "inspect the server "+ref.Name, launcherScript, "status", ref.Directory)
	if err != nil {
		return deploy.Status{}, err
	}
	seen := parseStatus(output)
	if seen.state == "" {
		return deploy.Status{}, &deploy.Error{Summary: "could not inspect the server " + ref.Name, Cause: "The machine's answer could" +
			" not be decoded.", Err: fmt.Errorf("%.200q", output)}
	}
	if seen.state == "gone" || (ref.ID != "" && seen.id != ref.ID) {
		return deploy.Status{Ref: ref, State: deploy.Gone}, nil
	}
	ref.ID = seen.id
	return seen.status(ref), nil
}

// Find lists the owner's servers, running or not.
func (h *Host) Find(ctx context.Context, owner string) ([]deploy.Status, error) {
	return h.list(ctx, func(r record) bool { return r.Owner == owner })
}

// Named is the server of a name, the one that runs where there are several, with its owner; [deploy.Gone] where there is none.
func (h *Host) Named(ctx context.Context, name string) (deploy.Status, error) {
	found, err := h.list(ctx, func(r record) bool { return r.Name == name })
	if err != nil || len(found) == 0 {
		return deploy.Status{State: deploy.Gone}, err
	}
	return found[max(0, slices.IndexFunc(found, func(s deploy.Status) bool { return s.State.Alive() }))], nil
}

// APIKey is the key in a running server's environment, "" for none.
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

// followScript prints a log as it grows. It ends when its input does, as the connection's end at the latest makes it.
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

// Settle lets the supervisor start the server again when it dies.
func (h *Host) Settle(ctx context.Context, ref deploy.Ref) error {
	return h.put(ctx, ref.Directory, "settled", "")
}

// end ends a server's whole session, with TERM and then KILL, and checks that nobody of it is left. Having ended already is a
// success. While it drains, TERM goes to the server alone: its workers would end at once (seen with vLLM 0.32.0). The note is about
// what it leaves in the machine's firewall, mostly "".
func (h *Host) end(ctx context.Context, ref deploy.Ref, stop deploy.Stop) (note string, err error) {
	if ref.Directory == "" {
		return "", &deploy.Error{Summary: "could not end the server " + ref.Name, Cause: "Its directory is unknown."}
	}
	grace := stopGrace
	if stop.Force {
		grace = 2
	}
	return h.stop(ctx, ref.Directory, grace, stop.Drain)
}

// Remove ends the whole session of the server, waits for its GPU memory, and removes what was kept beside it. Memory that
// doesn't come back is no error, because nothing of the server is left that could be ended: it is in the note, as is what the
// machine's firewall keeps.
func (h *Host) Remove(ctx context.Context, ref deploy.Ref, stop deploy.Stop) (note string, err error) {
	status, inspectErr := h.Inspect(ctx, ref)
	if inspectErr == nil && status.State == deploy.Gone {
		return "", nil
	}
	rules, err := h.end(ctx, ref, stop)
	if err != nil {
		return "", errors.Join(err, inspectErr)
	}
	notes := []string{rules}
	if status.State.Alive() {
		notes = append(notes, h.awaitMemory(ctx, status.HeldBefore))
	}
	notes = slices.DeleteFunc(notes, func(note string) bool { return note == "" })
	return strings.Join(notes, ", and "), h.remove(ctx, ref.Directory)
}

// Restart sets the server aside and restores it.
func (h *Host) Restart(ctx context.Context, ref deploy.Ref, stop deploy.Stop) (deploy.Ref, error) {
	aside, err := h.SetAside(ctx, ref, stop)
	if aside.Restore == nil || (err != nil && !deploy.Lost(h.machine, err)) {
		return ref, err
	}
	// Where the answer to the stop was lost, the server is as good as stopped: its secrets are only here by now.
	restored, err := aside.Restore(ctx)
	if err != nil && ctx.Err() == nil && deploy.Lost(h.machine, err) {
		restored, err = aside.Restore(ctx)
	}
	return restored, err
}

// SetAside stops a server and keeps in memory what it takes to start it again: its secrets are nowhere else. It waits for the
// GPU memory, too: the next server is about to ask for it.
func (h *Host) SetAside(ctx context.Context, ref deploy.Ref, stop deploy.Stop) (deploy.Aside, error) {
	output, err := h.run(ctx, "inspect the server "+ref.Name, launcherScript, "status", ref.Directory)
	if err != nil {
		return deploy.Aside{}, err
	}
	seen := parseStatus(output)
	state := deploy.State(seen.state)
	runs := state == deploy.Running || state == deploy.Orphaned
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
		// Stopped again first: a stop, or an earlier start, may have been cut off on this computer and not on the machine.
		if _, err := h.end(ctx, ref, deploy.Stop{}); err != nil {
			return ref, err
		}
		restored := ref
		var err error
		command := append([]string{seen.record.Program}, seen.record.Arguments...)
		restored.ID, err = h.launch(ctx, ref.Directory, nil, environment, command...)
		return restored, err
	}
	_, err = h.end(ctx, ref, stop) // what it leaves is told when the server is removed
	if err == nil && state.Alive() && seen.id == ref.ID {
		_ = h.awaitMemory(ctx, seen.record.HeldBefore) // if it doesn't come back, the next server's log says so
	}
	return aside, err
}

// environment reads a running server's variables from the kernel, which shows them to its own user only.
func (h *Host) environment(ctx context.Context, ref deploy.Ref, names []string) (map[string]string, error) {
	op := "read the environment of the server " + ref.Name
	output, err := h.run(ctx, op, launcherScript, "environment", ref.Directory)
	if err != nil {
		return nil, err
	}
	environment := variablesOf(output, names, "") // as the server itself has them, which alone is left of an orphan
	maps.Copy(environment, variablesOf(output, names, variablePrefix))
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, found := environment[name]; return found })
	if len(missing) > 0 {
		return nil, &deploy.Error{Summary: "could not " + op, Cause: fmt.Sprintf("%d of its %d variables (%s) are missing.", len(missing), len(names),
			strings.Join(missing, ", "))}
	}
	return environment, nil
}

// variablesOf are the variables with these names, after a prefix, of an environment as the kernel writes it.
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
	// memoryTime is how long a GPU may take to return the memory of a process that has ended.
	memoryTime = 20 * time.Second
	// memorySlackMiB is what a driver's own figures may differ by.
	memorySlackMiB = 512
)

// awaitMemory waits until the GPUs hold no more than before the start, but for what living processes hold by now, and
// returns what is wrong with that, "" for nothing. Figures that nvidia-smi doesn't tell are not waited for.
func (h *Host) awaitMemory(ctx context.Context, before []int) string {
	ctx, cancel := context.WithTimeout(ctx, memoryTime)
	defer cancel()
	pause := pace.Looks()
	for {
		gpus, err := deploy.QueryGPUs(ctx, h.machine)
		if err != nil {
			return ""
		}
		held := heldSince(gpus, before)
		if held != "" {
			held = heldSince(withoutUsers(gpus, h.users(ctx)), before)
		}
		if held == "" {
			return ""
		}
		if pause.Wait(ctx) != nil {
			return "none of its processes, but GPU memory that has not been released: " + held
		}
	}
}

// users are the processes that nvidia-smi shows; inside a container it may show none.
func (h *Host) users(ctx context.Context) []deploy.GPUUser {
	users, err := deploy.QueryGPUUsers(ctx, h.machine)
	if err != nil {
		return nil
	}
	return users
}

// withoutUsers are the GPUs with what nobody among the users holds.
func withoutUsers(gpus []deploy.GPU, users []deploy.GPUUser) []deploy.GPU {
	for i := range gpus {
		for _, user := range users {
			if user.GPU == gpus[i].UUID {
				gpus[i].UsedMiB -= user.MiB
			}
		}
	}
	return gpus
}

func heldSince(gpus []deploy.GPU, before []int) string {
	var held []string
	for i, gpu := range gpus {
		if i < len(before) && gpu.UsedMiB > before[i]+memorySlackMiB {
			held = append(held, fmt.Sprintf("GPU %d holds %d MiB, %d before the start", gpu.Index, gpu.UsedMiB, before[i]))
		}
	}
	return strings.Join(held, ", ")
}
