package container

import (
	"context"
	"errors"
	"time"

	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// removeTimeout is how long a container may take to disappear: a process in an uninterruptible call to the driver
// holds it.
const removeTimeout = 2 * time.Minute

var errStillThere = errors.New("it is still there")

// Remove stops and removes a container by its id and checks that it is gone. Gone already is a success. With
// [deploy.Stop.Force] the server isn't given time to end by itself.
func (e *Engine) Remove(ctx context.Context, ref deploy.Ref, stop deploy.Stop) (note string, err error) {
	op := "remove the container " + ref.Name
	if !idPattern.MatchString(ref.ID) {
		return "", &Error{Op: op, Code: BadOptions, Cause: "It has no id."}
	}
	ctx, cancel := context.WithTimeout(ctx, removeTimeout+stopGrace+stop.Drain)
	defer cancel()
	var stopErr error
	if !stop.Force {
		stopErr = e.stop(ctx, ref, stop)
	}
	_, removeErr := e.api.ContainerRemove(ctx, ref.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	err = e.waitGone(ctx, ref.ID)
	if err == nil {
		return "", nil
	}
	return "", known(failed(ctx, op, errors.Join(err, removeErr, stopErr)))
}

// waitGone looks until the engine knows the container no longer. Only that counts: an engine answers a removal that
// is under way with an error, and one that it has begun with success.
func (e *Engine) waitGone(ctx context.Context, id string) error {
	const tries = 20
	pause := 50 * time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for range tries {
		select {
		case <-ctx.Done():
			return errors.Join(errStillThere, ctx.Err())
		case <-timer.C:
		}
		_, err := e.inspect(ctx, id)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		timer.Reset(pause)
		pause = min(pause*2, 2*time.Second)
	}
	return errStillThere
}
