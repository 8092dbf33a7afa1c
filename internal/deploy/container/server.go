package container

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Start creates and starts a container. If it fails after that was created, it returns the reference too, to remove it. A container
// that has the name already is an error, and is not touched.
func (e *Engine) Start(ctx context.Context, wanted deploy.Wanted) (deploy.Ref, error) {
	name := cmp.Or(e.options.Name, wanted.Name)
	ref := deploy.Ref{Runtime: deploy.Container, Name: name, Owner: wanted.Owner, Port: wanted.Port, Listen: wanted.Listen}
	if err := e.nameIsFree(ctx, name, wanted.Owner); err != nil {
		return ref, err
	}
	config, hostConfig, err := e.settings(wanted)
	if err != nil {
		return ref, &deploy.Error{Summary: "could not describe the container", Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	created, err := e.api.ContainerCreate(ctx, client.ContainerCreateOptions{Config: config, HostConfig: hostConfig, Name: name})
	if err != nil {
		return ref, known(deploy.Failed(ctx, "create the container "+name, err))
	}
	ref.ID = created.ID
	if wanted.Certificate != "" {
		if err := e.copyCertificate(ctx, ref.ID, wanted); err != nil {
			return ref, err
		}
	}
	if _, err := e.api.ContainerStart(ctx, ref.ID, client.ContainerStartOptions{}); err != nil {
		return ref, known(deploy.Failed(ctx, "start the container "+name, err))
	}
	return ref, nil
}

// nameIsFree returns an error if a container has the name.
func (e *Engine) nameIsFree(ctx context.Context, name, owner string) error {
	if err := ValidateName(name); err != nil {
		return &deploy.Error{Summary: "could not use the container's name", Err: err}
	}
	found, err := e.inspect(ctx, name)
	switch {
	case isNotFound(err):
		return nil
	case err != nil:
		return deploy.Failed(ctx, "look for a container named "+name, err)
	case strings.TrimPrefix(found.Name, "/") != name: // an engine also finds containers by the beginning of their ID
		return nil
	}
	image, whose := "", "belongs to something else"
	if found.Config != nil {
		image = " of image " + found.Config.Image
		if found.Config.Labels[labelOwner] == owner {
			whose = "is an earlier container of this deployment"
		}
	}
	return &deploy.Error{
		Summary: "could not use the container's name",
		Cause:   fmt.Sprintf("The machine already has a container named %s (ID %.12s%s), which %s.", name, found.ID, image, whose),
		WayOut:  "Choose another container.name, or remove that container yourself; it was not touched.",
	}
}

func (e *Engine) copyCertificate(ctx context.Context, id string, wanted deploy.Wanted) error {
	archive, err := certificateArchive(e.options.User, wanted)
	if err == nil {
		_, err = e.api.CopyToContainer(ctx, id, client.CopyToContainerOptions{
			DestinationPath: "/", Content: bytes.NewReader(archive), // which sets the owners
		})
	}
	return deploy.Failed(ctx, "put the certificate into the container", err)
}

// certificateArchive is a tar of the certificate and its key, which only the server's user can read.
func certificateArchive(user string, wanted deploy.Wanted) ([]byte, error) {
	uid, gid := numericUser(user)
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	now := time.Now()
	directory := strings.TrimPrefix(tlsDirectory, "/") + "/"
	headers := []struct {
		header tar.Header
		body   string
	}{
		{tar.Header{Typeflag: tar.TypeDir, Name: directory, Mode: 0o755}, ""},
		{tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(tlsCertificatePath, "/"), Mode: 0o644}, wanted.Certificate},
		{tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(tlsKeyPath, "/"), Mode: 0o440}, wanted.Key},
	}
	for _, entry := range headers {
		entry.header.Uid, entry.header.Gid, entry.header.ModTime = uid, gid, now
		entry.header.Size = int64(len(entry.body))
		if err := writer.WriteHeader(&entry.header); err != nil {
			return nil, err
		}
		if _, err := writer.Write([]byte(entry.body)); err != nil {
			return nil, err
		}
	}
	return buffer.Bytes(), writer.Close()
}

// numericUser returns the owner of the key. Names are known only in the image: a name is 0, so a named user must be in group 0.
func numericUser(user string) (uid, gid int) {
	name, group, _ := strings.Cut(user, ":")
	uid, _ = strconv.Atoi(name)
	gid, _ = strconv.Atoi(group)
	return uid, gid
}

// Settle makes the engine restart the server when it dies and after a reboot.
func (e *Engine) Settle(ctx context.Context, ref deploy.Ref) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := e.readFacts(ctx); err != nil {
		return err
	}
	policy := container.RestartPolicyUnlessStopped
	if e.Facts.Name == podman {
		policy = container.RestartPolicyAlways // in all releases, its service starts these after a boot
	}
	_, err := e.api.ContainerUpdate(ctx, ref.ID, client.ContainerUpdateOptions{RestartPolicy: &container.RestartPolicy{Name: policy}})
	err = deploy.Failed(ctx, "set the container's restart policy", err)
	if e.Facts.Name == podman && isNotFound(err) {
		err = &deploy.Error{
			Summary: "could not set the container's restart policy", Cause: "Podman " + e.Facts.Version + " can't change it; 5.1 and newer can.",
			WayOut: "Use a newer Podman, or Docker.",
		}
	}
	return err
}

// Restart restarts the container.
func (e *Engine) Restart(ctx context.Context, ref deploy.Ref, stop deploy.Stop) (deploy.Ref, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout+stopGrace+stop.Drain)
	defer cancel()
	grace := int((stopGrace + stop.Drain).Seconds())
	_, err := e.api.ContainerRestart(ctx, ref.ID, client.ContainerRestartOptions{Timeout: &grace})
	return ref, known(deploy.Failed(ctx, "restart the container "+ref.Name, err))
}

// stop stops a container: the engine kills it after the grace period.
func (e *Engine) stop(ctx context.Context, ref deploy.Ref, stop deploy.Stop) error {
	grace := int((stopGrace + stop.Drain).Seconds())
	_, err := e.api.ContainerStop(ctx, ref.ID, client.ContainerStopOptions{Timeout: &grace})
	return err
}

// SetAside stops a container and renames it, so that its name can be used. [deploy.Aside.Restore] first stops it again, because a
// stop whose connection was lost continues in the engine.
func (e *Engine) SetAside(ctx context.Context, ref deploy.Ref, stop deploy.Stop) (deploy.Aside, error) {
	found, err := e.inspect(ctx, ref.ID)
	if err != nil {
		return deploy.Aside{}, deploy.Failed(ctx, "inspect the container "+ref.Name, err)
	}
	name := strings.TrimPrefix(found.Name, "/")
	aside := deploy.Aside{Ref: ref, WasRunning: found.State != nil && found.State.Running}
	if found.Config != nil {
		aside.APIKey = variables(found.Config.Env)[vllm.EnvAPIKey]
		aside.Arguments = arguments(found)
	}
	aside.Restore = func(ctx context.Context) (deploy.Ref, error) { return ref, e.bringBack(ctx, ref, name) }
	ctx, cancel := context.WithTimeout(ctx, writeTimeout+stopGrace+stop.Drain)
	defer cancel()
	if err := e.stop(ctx, ref, stop); err != nil {
		return aside, deploy.Failed(ctx, "stop the container "+name, err)
	}
	asideName := fmt.Sprintf("%s-replaced-%.12s", name, ref.ID)
	if strings.Contains(name, "-replaced-") {
		return aside, nil // set aside by an earlier attempt that was killed
	}
	if _, err := e.api.ContainerRename(ctx, ref.ID, client.ContainerRenameOptions{NewName: asideName}); err != nil {
		return aside, deploy.Failed(ctx, "rename the container "+name, err)
	}
	return aside, nil
}

func (e *Engine) bringBack(ctx context.Context, ref deploy.Ref, name string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout+stopGrace)
	defer cancel()
	if err := e.stop(ctx, ref, deploy.Stop{}); err != nil {
		return deploy.Failed(ctx, "stop the container "+name, err)
	}
	name, _, _ = strings.Cut(name, "-replaced-")
	_, err := e.api.ContainerRename(ctx, ref.ID, client.ContainerRenameOptions{NewName: name})
	if err != nil && !errdefs.IsConflict(err) {
		found, inspectErr := e.inspect(ctx, ref.ID)
		if inspectErr != nil || strings.TrimPrefix(found.Name, "/") != name {
			return deploy.Failed(ctx, "restore the container's name", err)
		}
	}
	_, err = e.api.ContainerStart(ctx, ref.ID, client.ContainerStartOptions{})
	return known(deploy.Failed(ctx, "start the container "+name+" again", err))
}

// removeTimeout is how long a removal may take: a process in an uninterruptible call into the driver delays it.
const removeTimeout = 2 * time.Minute

var errStillThere = errors.New("the container still exists")

// Remove stops and removes a container by its ID and checks that it is gone. A container that is gone already is a success. With
// [deploy.Stop.Force] the container is killed.
func (e *Engine) Remove(ctx context.Context, ref deploy.Ref, stop deploy.Stop) (note string, err error) {
	op := "remove the container " + ref.Name
	if !idPattern.MatchString(ref.ID) {
		return "", &deploy.Error{Summary: "could not " + op, Cause: "It has no ID."}
	}
	ctx, cancel := context.WithTimeout(ctx, removeTimeout+stopGrace+stop.Drain)
	defer cancel()
	var stopErr error
	if !stop.Force {
		stopErr = e.stop(ctx, ref, stop)
	}
	_, removeErr := e.api.ContainerRemove(ctx, ref.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err = e.waitGone(ctx, ref.ID); err != nil {
		err = known(deploy.Failed(ctx, op, errors.Join(err, removeErr, stopErr)))
	}
	return "", err
}

// waitGone waits until the engine no longer knows the container. The removal's own answer doesn't show that: it may be an error while
// another removal is running, and a success before the container is gone.
func (e *Engine) waitGone(ctx context.Context, id string) error {
	pause := pace.Looks()
	for range 20 {
		_, err := e.inspect(ctx, id)
		switch {
		case isNotFound(err):
			return nil
		case err != nil:
			return err
		}
		if err := pause.Wait(ctx); err != nil {
			return errors.Join(errStillThere, err)
		}
	}
	return errStillThere
}
