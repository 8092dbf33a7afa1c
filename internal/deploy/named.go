package deploy

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Named is the server of a deployment whose name is all that is known, with its owner and its [Request.Note], whichever runtime
// it has. Processes are looked for in a directory; "" = [process.DefaultDirectory] in the user's home.
func Named(ctx context.Context, machine Machine, name, directory string) (Status, error) {
	inContainers := func() (Status, error) {
		engine, err := container.Connect(ctx, machine)
		if err != nil {
			return Status{}, err
		}
		status, err := engine.Named(ctx, name)
		return status, errors.Join(err, engine.Close())
	}
	inProcesses := func() (Status, error) {
		host, err := process.Connect(ctx, machine, ProcessOptions{Directory: directory})
		if err != nil {
			return Status{}, err
		}
		return host.Named(ctx, name)
	}
	var problems error
	for _, look := range []func() (Status, error){inContainers, inProcesses} {
		status, err := look()
		if err == nil && status.State != Gone {
			return status, nil
		}
		problems = errors.Join(problems, err) // such as a machine without containers
	}
	return Status{}, &Error{
		Phase: PhaseInspect, Summary: "Server was not found",
		Cause:  fmt.Sprintf("The machine has no container or process %q that a deployment started.", name),
		WayOut: "Look for its name on the machine with `docker ps -a` or in ~/" + process.DefaultDirectory + "/servers.", Err: problems,
	}
}

// APIKey is the key that a running server has, "" for none. It is a secret.
func APIKey(ctx context.Context, machine Machine, ref Ref) (key string, err error) {
	switch ref.Runtime {
	case Container:
		engine, err := container.Connect(ctx, machine)
		if err != nil {
			return "", err
		}
		key, err = engine.Variable(ctx, ref, vllm.EnvAPIKey)
		return key, errors.Join(err, engine.Close())
	default:
		host, err := process.Connect(ctx, machine, ProcessOptions{Directory: ref.Base()})
		if err != nil {
			return "", err
		}
		return host.Variable(ctx, ref, vllm.EnvAPIKey)
	}
}
