package container

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

const (
	// maxLogBytes bounds what is read of a log, whatever the number of lines.
	maxLogBytes = 4 << 20
	// maxOwned is how many containers of one owner are looked at.
	maxOwned = 50
	// A container is in a restart loop after loopRestarts restarts, the last within loopWindow.
	loopRestarts = 3
	loopWindow   = 10 * time.Minute
)

// inspect returns the container of an ID or a name.
func (e *Engine) inspect(ctx context.Context, idOrName string) (container.InspectResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	// The client puts it into a URL's path unescaped.
	if !idPattern.MatchString(idOrName) && !namePattern.MatchString(idOrName) {
		return container.InspectResponse{}, &deploy.Error{Summary: "could not look for a container", Cause: "Its ID is neither a container ID nor a" +
			" name."}
	}
	found, err := e.api.ContainerInspect(ctx, idOrName, client.ContainerInspectOptions{})
	return found.Container, err
}

// Inspect returns a container's status, [deploy.Gone] if there is none.
func (e *Engine) Inspect(ctx context.Context, ref deploy.Ref) (deploy.Status, error) {
	status, found, err := e.look(ctx, ref)
	if found.Config != nil {
		// Fingerprints are slow: State goes without.
		status.APIKeyPrint = deploy.Fingerprint(ref.Owner, variables(found.Config.Env)[vllm.EnvAPIKey])
		status.HFTokenPrint = deploy.Fingerprint(ref.Owner, variables(found.Config.Env)[vllm.EnvHFToken])
	}
	e.addImage(ctx, &status, found)
	return status, err
}

// State is Inspect with one request, without fingerprints and what the image says.
func (e *Engine) State(ctx context.Context, ref deploy.Ref) (deploy.Status, error) {
	status, _, err := e.look(ctx, ref)
	return status, err
}

func (e *Engine) look(ctx context.Context, ref deploy.Ref) (deploy.Status, container.InspectResponse, error) {
	found, err := e.inspect(ctx, ref.ID)
	switch {
	case isNotFound(err):
		return deploy.Status{Ref: ref, State: deploy.Gone}, found, nil
	case err != nil:
		return deploy.Status{}, found, deploy.Failed(ctx, "inspect the container "+ref.Name, err)
	}
	return describe(ref, found), found, nil
}

// Find lists the containers with the owner's label, running or not.
func (e *Engine) Find(ctx context.Context, owner string) ([]deploy.Status, error) {
	listing, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	list, err := e.api.ContainerList(listing, client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", labelOwner+"="+owner),
	})
	if err != nil {
		return nil, deploy.Failed(ctx, "list containers", err)
	}
	var statuses []deploy.Status
	for _, item := range list.Items {
		if item.Labels[labelOwner] != owner || len(statuses) == maxOwned { // checked again here: the caller may remove it
			continue
		}
		status, err := e.Inspect(ctx, deploy.Ref{Runtime: deploy.Container, ID: item.ID, Owner: owner})
		if err != nil {
			return nil, err
		}
		if status.State != deploy.Gone {
			statuses = append(statuses, status)
		}
	}
	return statuses, nil
}

// Named implements [deploy.Runtime].
func (e *Engine) Named(ctx context.Context, name string) (deploy.Status, error) {
	found, err := e.inspect(ctx, name)
	if isNotFound(err) || (err == nil && (found.Config == nil || found.Config.Labels[labelOwner] == "")) {
		return deploy.Status{State: deploy.Gone}, nil
	}
	if err != nil {
		return deploy.Status{}, deploy.Failed(ctx, "look for the container "+name, err)
	}
	return e.Inspect(ctx, deploy.Ref{Runtime: deploy.Container, ID: found.ID, Owner: found.Config.Labels[labelOwner]})
}

// APIKey returns the API key in a container's environment, "" for none.
func (e *Engine) APIKey(ctx context.Context, ref deploy.Ref) (string, error) {
	found, err := e.inspect(ctx, ref.ID)
	if err != nil || found.Config == nil {
		return "", deploy.Failed(ctx, "inspect the container "+ref.Name, err)
	}
	return variables(found.Config.Env)[vllm.EnvAPIKey], nil
}

// describe converts what the engine reports of a container.
func describe(ref deploy.Ref, found container.InspectResponse) deploy.Status {
	ref.Name = strings.TrimPrefix(found.Name, "/")
	status := deploy.Status{Ref: ref, State: deploy.Unknown, RestartCount: found.RestartCount}
	if config := found.Config; config != nil {
		status.Image = config.Image
		status.Arguments = arguments(found)
		status.SpecHash, status.Note = config.Labels[labelSpec], config.Labels[labelNote]
		status.Environment = variables(config.Env)
		for _, secret := range []string{vllm.EnvAPIKey, vllm.EnvHFToken, "HUGGING_FACE_HUB_TOKEN"} {
			delete(status.Environment, secret)
		}
	}
	if found.HostConfig != nil {
		policy := found.HostConfig.RestartPolicy.Name
		status.RestartsItself = policy == container.RestartPolicyUnlessStopped || policy == container.RestartPolicyAlways
	}
	if spec := vllm.ParseCommandLine(status.Arguments); status.Port == 0 {
		status.Port, status.Listen = spec.Port, spec.Listen
	}
	if state := found.State; state != nil {
		status.State = stateOf(state.Status)
		status.ExitCode = state.ExitCode
		status.Reason = state.Error
		if status.OOMKilled = state.OOMKilled; state.OOMKilled {
			status.Reason = "the kernel killed it: out of memory (RAM, not GPU memory)"
		}
		if status.State == deploy.Unknown && status.Reason == "" {
			status.Reason = fmt.Sprintf("the engine reports the state %q", state.Status)
		}
		status.StartedAt = parseTime(state.StartedAt)
	}
	status.RestartLoop = found.RestartCount >= loopRestarts &&
		(status.State == deploy.Restarting || time.Since(status.StartedAt) < loopWindow)
	return status
}

func stateOf(word container.ContainerState) deploy.State {
	switch word {
	case container.StateRunning, container.StatePaused:
		return deploy.Running
	case container.StateCreated:
		return deploy.Starting
	case container.StateRestarting:
		return deploy.Restarting
	case container.StateExited, container.StateDead, container.StateRemoving, "stopped":
		return deploy.Exited
	default:
		return deploy.Unknown
	}
}

// parseTime parses an engine's time. The year 1 means never.
func parseTime(text string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.Year() < 2000 {
		return time.Time{}
	}
	return at.UTC()
}

// arguments are the container's command line after "vllm", with the address and port at which the machine publishes the server.
func arguments(found container.InspectResponse) []string {
	line := slices.Concat(found.Config.Entrypoint, found.Config.Cmd)
	if len(line) > 0 && line[0] == vllm.Program {
		line = line[1:]
	}
	return published(line, found.HostConfig)
}

// variables splits NAME=VALUE lines.
func variables(lines []string) map[string]string {
	values := make(map[string]string, len(lines))
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		values[name] = value
	}
	return values
}

// addImage adds the image's digest, and removes the image's variables from the environment. That the image was removed is no error.
func (e *Engine) addImage(ctx context.Context, status *deploy.Status, found container.InspectResponse) {
	if !strings.HasPrefix(found.Image, "sha256:") {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	image, err := e.api.ImageInspect(ctx, found.Image)
	if err != nil {
		status.ImageDigest = found.Image
		return
	}
	status.ImageDigest = digest(status.Image, image.RepoDigests, found.Image)
	if image.Config == nil {
		return
	}
	for name, value := range variables(image.Config.Env) {
		if status.Environment[name] == value {
			delete(status.Environment, name)
		}
	}
}

// digest is the image's digest in its registry, or its ID if it came from none.
func digest(image string, repoDigests []string, id string) string {
	name, _, _ := strings.Cut(image, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	found := ""
	for _, entry := range repoDigests {
		repository, digest, _ := strings.Cut(entry, "@")
		if repository == name || strings.HasSuffix(repository, "/"+name) {
			return digest
		}
		found = cmp.Or(found, digest)
	}
	return cmp.Or(found, id)
}

// startSlack is how far a log line's time may be before that of its start. It is no longer than an engine's shortest pause before a
// restart, so that no line of an earlier start is included.
const startSlack = 100 * time.Millisecond

// Log returns the last lines of a container's log, both streams in the order of writing: those since its last start or, in a restart
// loop, of all starts, because the last one may have logged nothing yet.
func (e *Engine) Log(ctx context.Context, ref deploy.Ref, lines int) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	stream, err := e.openLog(ctx, ref, lines, false)
	if err != nil {
		return nil, err
	}
	defer stream.Close() // its error doesn't matter after reading
	var text bytes.Buffer
	_, err = stdcopy.StdCopy(&text, &text, io.LimitReader(stream, maxLogBytes))
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // cut at the limit
	}
	return splitLines(text.String(), lines), deploy.Failed(ctx, "read the log of the container "+ref.Name, err)
}

// Follow implements [deploy.Runtime]. Its lines are Log's.
func (e *Engine) Follow(ctx context.Context, ref deploy.Ref, lines int) (io.ReadCloser, error) {
	stream, err := e.openLog(ctx, ref, lines, true)
	if err != nil {
		return nil, err
	}
	reader, writer := io.Pipe()
	go func() {
		_, err := stdcopy.StdCopy(writer, writer, stream)
		_ = writer.CloseWithError(errors.Join(err, stream.Close()))
	}()
	context.AfterFunc(ctx, func() { _ = reader.Close() })
	return reader, nil
}

// openLog opens both streams of a container's log.
func (e *Engine) openLog(ctx context.Context, ref deploy.Ref, lines int, follow bool) (io.ReadCloser, error) {
	op := "read the log of the container " + ref.Name
	if !idPattern.MatchString(ref.ID) {
		return nil, &deploy.Error{Summary: "could not " + op, Cause: "It has no ID."}
	}
	options := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(max(lines, 1)), Follow: follow}
	found, err := e.inspect(ctx, ref.ID)
	if err != nil {
		return nil, deploy.Failed(ctx, op, err)
	}
	if status := describe(ref, found); !status.StartedAt.IsZero() && !status.RestartLoop {
		options.Since = status.StartedAt.Add(-startSlack).Format(time.RFC3339Nano)
	}
	stream, err := e.api.ContainerLogs(ctx, ref.ID, options)
	return stream, deploy.Failed(ctx, op, err)
}

func splitLines(text string, most int) []string {
	text = strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(0, len(lines)-most):]
}
