package deploy

import (
	"context"
	"fmt"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/server"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// runtime runs servers on one machine in one way. Every method ends with its context.
type runtime interface {
	kind() Kind
	// ready gets what a start needs: an image, or a vLLM.
	ready(ctx context.Context, progress func(string)) error
	// release is the vLLM release that ready has got, "" where that isn't known.
	release() string
	// tlsFiles are the paths where start puts a certificate and its key.
	tlsFiles() (certificate, key string)
	observer
	starter
	close() error
}

// observer is the part of a runtime that changes nothing.
type observer interface {
	// find lists the owner's servers, running or not.
	find(ctx context.Context, owner string) ([]Status, error)
	// state is inspect for a loop that waits.
	state(ctx context.Context, ref Ref) (Status, error)
	inspect(ctx context.Context, ref Ref) (Status, error)
	log(ctx context.Context, ref Ref, lines int) ([]string, error)
	// reach tells a person how to get at the server's log, and how to remove the server.
	reach(ref Ref) string
}

// starter is the part of a runtime that starts and ends servers.
type starter interface {
	// start returns a reference with an ID, also together with an error, as soon as there is something to remove.
	start(ctx context.Context, wanted server.Wanted) (Ref, error)
	// settle lets the runtime start the server again by itself from now on.
	settle(ctx context.Context, ref Ref) error
	restart(ctx context.Context, ref Ref, stop server.Stop) (Ref, error)
	// setAside stops a server so that it can be brought back.
	setAside(ctx context.Context, ref Ref, stop server.Stop) (server.Aside, error)
	// remove stops and removes the server and checks that it is gone. It returns what is worth knowing although it is gone.
	remove(ctx context.Context, ref Ref, stop server.Stop) (note string, err error)
}

var (
	_ runtime = (*containerRuntime)(nil)
	_ runtime = (*processRuntime)(nil)
)

// containerRuntime is a machine's container engine.
type containerRuntime struct {
	engine  *container.Engine
	options ContainerOptions
}

func (r *containerRuntime) kind() Kind { return Container }

func (r *containerRuntime) ready(ctx context.Context, progress func(string)) error {
	return r.engine.EnsureImage(ctx, r.options, progress)
}

func (r *containerRuntime) release() string {
	release, _ := vllm.ImageVersion(r.options.Image) // "" of an image of somebody's own
	return release
}

func (r *containerRuntime) find(ctx context.Context, owner string) ([]Status, error) {
	return r.engine.Find(ctx, owner)
}

func (r *containerRuntime) start(ctx context.Context, wanted server.Wanted) (Ref, error) {
	return r.engine.Start(ctx, r.options, wanted)
}

func (r *containerRuntime) state(ctx context.Context, ref Ref) (Status, error) {
	return r.engine.State(ctx, ref)
}

func (r *containerRuntime) inspect(ctx context.Context, ref Ref) (Status, error) {
	return r.engine.Inspect(ctx, ref)
}

func (r *containerRuntime) log(ctx context.Context, ref Ref, lines int) ([]string, error) {
	return r.engine.Log(ctx, ref, lines)
}

func (r *containerRuntime) settle(ctx context.Context, ref Ref) error {
	return r.engine.Settle(ctx, ref)
}

func (r *containerRuntime) restart(ctx context.Context, ref Ref, stop server.Stop) (Ref, error) {
	return ref, r.engine.Restart(ctx, ref, stop)
}

func (r *containerRuntime) setAside(ctx context.Context, ref Ref, stop server.Stop) (server.Aside, error) {
	return r.engine.SetAside(ctx, ref, stop)
}

func (r *containerRuntime) remove(ctx context.Context, ref Ref, stop server.Stop) (string, error) {
	return "", r.engine.Remove(ctx, ref, stop)
}

func (r *containerRuntime) reach(ref Ref) string {
	engine := r.engine.Program()
	return fmt.Sprintf("the container %s (id %.12s); on the machine, `%s logs %.12[2]s` shows its log and %[4]s removes it",
		ref.Name, ref.ID, engine, removal(ref, engine))
}

func (r *containerRuntime) tlsFiles() (certificate, key string) {
	return container.TLSCertificatePath, container.TLSKeyPath
}

func (r *containerRuntime) close() error { return r.engine.Close() }

// openRuntime opens the runtime that a server was made with.
func openRuntime(ctx context.Context, machine Machine, request Request, kind Kind) (runtime, error) {
	switch kind {
	case Container:
		engine, err := container.Connect(ctx, machine)
		if err != nil {
			return nil, err
		}
		return &containerRuntime{engine: engine, options: request.Container}, nil
	case Process:
		opened, err := openProcess(ctx, machine, request.Process)
		if err != nil {
			return nil, err
		}
		return opened, nil
	default:
		return nil, fmt.Errorf("a server is run as %q or %q, not as %q", Container, Process, kind)
	}
}
