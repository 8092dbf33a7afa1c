package deploy

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/server"
)

// processRuntime runs servers as processes of the machine.
type processRuntime struct {
	host    *process.Host
	machine Machine
	options ProcessOptions
	program process.Program // the vLLM to run: its release is known once the runtime is open, its path once it is ready
	picked  bool            // the release, where nobody named one and the machine has none
	tools   process.Tools
}

func openProcess(ctx context.Context, machine Machine, options ProcessOptions) (*processRuntime, error) {
	host, err := process.Connect(ctx, machine, options)
	if err != nil {
		return nil, err
	}
	return &processRuntime{host: host, machine: machine, options: options}, nil
}

const (
	// memoryTime is how long a GPU may take to return the memory of a process that has ended.
	memoryTime = 20 * time.Second
	// memorySlackMiB is what a driver's own figures may differ by.
	memorySlackMiB = 512
)

func (r *processRuntime) kind() Kind { return Process }

func (r *processRuntime) ready(ctx context.Context, progress func(string)) error {
	var err error
	r.program, err = r.host.Program(ctx, r.options, r.tools, progress)
	return err
}

func (r *processRuntime) release() string { return r.program.Release }

func (r *processRuntime) find(ctx context.Context, owner string) ([]Status, error) {
	return r.host.Find(ctx, owner)
}

func (r *processRuntime) start(ctx context.Context, wanted server.Wanted) (Ref, error) {
	return r.host.Start(ctx, r.program.Path, wanted)
}

func (r *processRuntime) state(ctx context.Context, ref Ref) (Status, error) {
	return r.host.Inspect(ctx, ref)
}

func (r *processRuntime) inspect(ctx context.Context, ref Ref) (Status, error) {
	return r.host.Inspect(ctx, ref)
}

func (r *processRuntime) log(ctx context.Context, ref Ref, lines int) ([]string, error) {
	return r.host.Log(ctx, ref, lines)
}

func (r *processRuntime) settle(ctx context.Context, ref Ref) error {
	return r.host.Settle(ctx, ref)
}

func (r *processRuntime) restart(ctx context.Context, ref Ref, stop server.Stop) (Ref, error) {
	aside, err := r.setAside(ctx, ref, stop)
	if aside.Restore == nil || (err != nil && !isLost(r.machine, err)) {
		return ref, err
	}
	// Where the answer to the stop was lost, the server is as good as stopped: its secrets are only here by now.
	restored, err := aside.Restore(ctx)
	if err != nil && ctx.Err() == nil && isLost(r.machine, err) {
		restored, err = aside.Restore(ctx)
	}
	return restored, err
}

// setAside waits for the GPU memory, too: the next server is about to ask for it.
func (r *processRuntime) setAside(ctx context.Context, ref Ref, stop server.Stop) (server.Aside, error) {
	status, err := r.host.Inspect(ctx, ref)
	if err != nil {
		return server.Aside{}, err
	}
	aside, err := r.host.SetAside(ctx, ref, stop)
	if err == nil && status.State.Alive() {
		_ = r.awaitMemory(ctx, status.HeldBefore) // if it doesn't come back, the next server's log says so
	}
	return aside, err
}

// remove ends the whole session of the server, waits for its GPU memory, and removes what was kept beside it. Memory that
// doesn't come back is no error, because nothing of the server is left that could be ended; it is told.
func (r *processRuntime) remove(ctx context.Context, ref Ref, stop server.Stop) (string, error) {
	status, inspectErr := r.host.Inspect(ctx, ref)
	if inspectErr == nil && status.State == Gone {
		return "", nil
	}
	if err := r.host.Stop(ctx, ref, stop); err != nil {
		return "", errors.Join(err, inspectErr)
	}
	note := ""
	if status.State.Alive() {
		note = r.awaitMemory(ctx, status.HeldBefore)
	}
	return note, r.host.Delete(ctx, ref)
}

// awaitMemory waits until the GPUs hold no more than before the start, but for what living processes hold by now, and
// returns what is wrong with that, "" for nothing. Figures that nvidia-smi doesn't tell are not waited for.
func (r *processRuntime) awaitMemory(ctx context.Context, before []int) string {
	ctx, cancel := context.WithTimeout(ctx, memoryTime)
	defer cancel()
	var pace waiter
	for {
		gpus, err := queryGPUs(ctx, r.machine)
		if err != nil {
			return ""
		}
		held := heldSince(gpus, before)
		if held != "" {
			held = heldSince(withoutUsers(gpus, r.users(ctx)), before)
		}
		if held == "" {
			return ""
		}
		if pace.wait(ctx) != nil {
			return "no process of it, but GPU memory that has not come back: " + held
		}
	}
}

// users are the processes that nvidia-smi shows; inside a container it may show none.
func (r *processRuntime) users(ctx context.Context) []gpuUser {
	users, err := queryGPUUsers(ctx, r.machine)
	if err != nil {
		return nil
	}
	return users
}

// withoutUsers are the GPUs with what nobody among the users holds.
func withoutUsers(gpus []GPU, users []gpuUser) []GPU {
	for i := range gpus {
		for _, user := range users {
			if user.gpu == gpus[i].UUID {
				gpus[i].UsedMiB -= user.mib
			}
		}
	}
	return gpus
}

func heldSince(gpus []GPU, before []int) string {
	var held []string
	for i, gpu := range gpus {
		if i < len(before) && gpu.UsedMiB > before[i]+memorySlackMiB {
			held = append(held, fmt.Sprintf("GPU %d holds %d MiB, %d before the start", gpu.Index, gpu.UsedMiB, before[i]))
		}
	}
	return strings.Join(held, ", ")
}

func (r *processRuntime) reach(ref Ref) string {
	pid, _, _ := strings.Cut(ref.ID, "-")
	return fmt.Sprintf("the process %s and its session (pid %s); on the machine, its log is %s and %s removes it",
		ref.Name, pid, path.Join(ref.Directory, "log"), removal(ref, ""))
}

func (r *processRuntime) tlsFiles() (certificate, key string) {
	return process.TLSCertificatePath, process.TLSKeyPath
}

func (r *processRuntime) close() error { return nil }
