package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// MaxLogLines bounds [LogTail].
const MaxLogLines = 5000

// Inspect returns a server's status, with State Gone if there is no such server. It asks neither the server nor nvidia-smi.
func Inspect(ctx context.Context, machine deploy.Machine, ref deploy.Ref) (deploy.Status, error) {
	return with(ctx, machine, ref, failure(deploy.PhaseInspect, "Server could not be inspected", nil),
		func(opened deploy.Runtime) (deploy.Status, error) { return opened.Inspect(ctx, ref) })
}

// Find lists the servers of the reference's owner, running or not. It finds a server that another tool has recreated under a new ID,
// such as one that updates containers.
func Find(ctx context.Context, machine deploy.Machine, ref deploy.Ref) ([]deploy.Status, error) {
	return with(ctx, machine, ref, failure(deploy.PhaseInspect, "Servers could not be listed", nil),
		func(opened deploy.Runtime) ([]deploy.Status, error) { return opened.Find(ctx, ref.Owner) })
}

// GPUs lists a machine's GPUs. It doesn't wait for the driver.
func GPUs(ctx context.Context, machine deploy.Machine) ([]deploy.GPU, error) {
	gpus, err := deploy.QueryGPUs(ctx, machine)
	if err != nil {
		return nil, explained(failure(deploy.PhaseInspect, "GPUs could not be listed", err))
	}
	return gpus, nil
}

// Named returns the server of a deployment's name, of either runtime, with its owner and its [Request.Note]. It looks for processes
// in directory; "" = [process.DefaultDirectory] in the user's home.
func Named(ctx context.Context, machine deploy.Machine, name, directory string) (deploy.Status, error) {
	home, problems := homeOf(ctx, machine)
	base := cmp.Or(directory, path.Join(home, process.DefaultDirectory))
	for _, ref := range []deploy.Ref{{Runtime: deploy.Container}, {Runtime: deploy.Process, Directory: path.Join(base, "servers", name)}} {
		opened, err := openRuntime(ctx, machine, ref)
		if err == nil {
			var status deploy.Status
			if status, err = opened.Named(ctx, name); err == nil && status.State != deploy.Gone {
				return status, opened.Close()
			}
			err = errors.Join(err, opened.Close())
		}
		problems = errors.Join(problems, err) // such as that the machine has no engine
	}
	return deploy.Status{}, &deploy.Error{
		Phase: deploy.PhaseInspect, Summary: "Server was not found",
		Cause:  fmt.Sprintf("The machine has no container or process %q that a deployment started.", name),
		WayOut: "Look for its name on the machine with `docker ps -a` or in ~/" + process.DefaultDirectory + "/servers.", Err: problems,
	}
}

// APIKey returns a running server's API key, "" for none. It is a secret.
func APIKey(ctx context.Context, machine deploy.Machine, ref deploy.Ref) (string, error) {
	return with(ctx, machine, ref, failure(deploy.PhaseInspect, "Server's API key could not be read", nil),
		func(opened deploy.Runtime) (string, error) { return opened.APIKey(ctx, ref) })
}

// Remove stops and removes a server by its ID and checks that it is gone. A server that is gone already is a success. It also removes
// what else the owner has on the machine, except for settled servers, which may be in use: servers that an update left for
// debugging, or set aside and could not remove. The warning, mostly "", is about requests that were aborted and about what the
// machine still has of the server, such as GPU memory. Of the request it uses DrainTimeout, TLS and Progress.
func Remove(ctx context.Context, machine deploy.Machine, ref deploy.Ref, request Request) (warning string, err error) {
	report := progress{tell: request.Progress}
	failed := failure(deploy.PhaseRemove, "Server could not be removed", nil)
	failed.Remains = "the server " + ref.Name + " (ID " + ref.ID + "), which may still be running and hold GPU memory"
	return with(ctx, machine, ref, failed, func(opened deploy.Runtime) (warning string, err error) {
		status, _ := opened.Inspect(ctx, ref) // if that fails, the removal may still succeed
		end := drain(ctx, machine, request.TLS, status, request.Drain())
		report.report(deploy.PhaseStop, end.plan())
		note, err := opened.Remove(ctx, ref, end.Stop)
		if note != "" {
			note = "The server " + ref.Name + " was removed, but the machine still has " + note + "."
		}
		warning = strings.TrimSpace(end.note() + " " + note)
		if err != nil || ref.Owner == "" {
			return warning, err
		}
		found, err := opened.Find(ctx, ref.Owner)
		for _, status := range found {
			inUse := status.RestartsItself && status.State.Alive()
			if err == nil && !inUse {
				_, err = opened.Remove(ctx, status.Ref, deploy.Stop{Force: true})
			}
		}
		return warning, err
	})
}

// LogTail returns the last lines of a server's log, at most [MaxLogLines], with secrets of known shape masked.
func LogTail(ctx context.Context, machine deploy.Machine, ref deploy.Ref, lines int) ([]string, error) {
	log, err := with(ctx, machine, ref, failure(deploy.PhaseInspect, "Server's log could not be read", nil),
		func(opened deploy.Runtime) ([]string, error) {
			return opened.Log(ctx, ref, min(max(lines, 1), MaxLogLines))
		})
	for i := range log {
		log[i] = vllm.MaskSecrets(log[i])
	}
	return log, err
}

// LogSince returns the lines of a server's log that are not older than age, by vLLM's times and the machine's clock. A line without a
// time is as old as the one before it.
func LogSince(ctx context.Context, machine deploy.Machine, ref deploy.Ref, log []string, age time.Duration) ([]string, error) {
	const layout = "01-02 15:04:05" // of vLLM's lines (vllm/logging_utils/formatter.py)
	date := []string{"date", "+%m-%d %H:%M:%S"}
	if ref.Runtime == deploy.Container { // whose clock shows UTC
		date = slices.Insert(date, 1, "-u")
	}
	result, err := machine.Run(ctx, host.Command{Args: date})
	if err != nil {
		return nil, err
	}
	now, err := time.Parse(layout, strings.TrimSpace(result.Stdout))
	if err != nil {
		return nil, fmt.Errorf("the machine's date could not be read: %w", err)
	}
	for i, line := range log {
		found := logTime.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		at, err := time.Parse(layout, found[1])
		if at.After(now) { // in last year
			at = at.AddDate(-1, 0, 0)
		}
		if err == nil && now.Sub(at) <= age {
			return log[i:], nil
		}
	}
	return nil, nil
}

var logTime = regexp.MustCompile(`\b(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) (\d\d-\d\d \d\d:\d\d:\d\d) `)

// with opens a server's runtime, does one operation, and closes the runtime. If the connection is lost, it does the operation again,
// which must allow that. Its error is failed with the operation's error and cause.
func with[T any](ctx context.Context, machine deploy.Machine, ref deploy.Ref, failed *deploy.Error,
	do func(deploy.Runtime) (T, error),
) (answer T, err error) {
	once := func() error {
		opened, err := openRuntime(ctx, machine, ref)
		if err != nil {
			return err
		}
		answer, err = do(opened)
		return errors.Join(err, opened.Close())
	}
	if err = once(); err != nil && ctx.Err() == nil && deploy.Lost(machine, err) {
		err = once()
	}
	if failed.Err = err; err != nil {
		err = explained(failed)
	}
	return answer, err
}

// openRuntime opens the runtime of a server.
func openRuntime(ctx context.Context, machine deploy.Machine, ref deploy.Ref) (deploy.Runtime, error) {
	switch ref.Runtime {
	case deploy.Container:
		return container.Reach(ctx, machine)
	case deploy.Process:
		return process.At(machine, process.Options{Directory: ref.Base()}, "")
	default:
		return nil, fmt.Errorf("a server's runtime is %q or %q, not %q", deploy.Container, deploy.Process, ref.Runtime)
	}
}
