package container

import (
	"bytes"
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
	// maxLogBytes bounds what is read of a log, whatever the number of lines asked for.
	maxLogBytes = 4 << 20
	// maxOwned bounds how many containers of one owner are looked at.
	maxOwned = 50
	// A container that was started again this often, the last time this recently, is in a restart loop.
	loopRestarts = 3
	loopWindow   = 10 * time.Minute
)

func (e *Engine) inspect(ctx context.Context, idOrName string) (container.InspectResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	// The client puts it into a URL's path as it is.
	if !idPattern.MatchString(idOrName) && !NamePattern.MatchString(idOrName) {
		return container.InspectResponse{}, &deploy.Error{Summary: "could not look for a container", Cause: "Its ID is neither a container ID nor a" +
			" name."}
	}
	found, err := e.api.ContainerInspect(ctx, idOrName, client.ContainerInspectOptions{})
	return found.Container, err
}

// Inspect says what a container is doing; one that isn't there is [deploy.Gone].
func (e *Engine) Inspect(ctx context.Context, ref deploy.Ref) (deploy.Status, error) {
	status, found, err := e.look(ctx, ref)
	if found.Config != nil {
		// Made to be slow, so not in look, which loops use.
		status.APIKeyPrint = deploy.Fingerprint(ref.Owner, variable(found.Config.Env, vllm.EnvAPIKey))
		status.HFTokenPrint = deploy.Fingerprint(ref.Owner, variable(found.Config.Env, vllm.EnvHFToken))
	}
	e.addImage(ctx, &status, found)
	return status, err
}

// State is Inspect for a loop that waits: one request, and no more than it needs.
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

// Find lists the containers that carry the owner's label, running or not.
func (e *Engine) Find(ctx context.Context, owner string) ([]deploy.Status, error) {
	list, err := e.list(ctx, owner)
	if err != nil {
		return nil, err
	}
	statuses := make([]deploy.Status, 0, len(list))
	for _, item := range list {
		ref := deploy.Ref{Runtime: deploy.Container, ID: item.ID, Owner: owner}
		status, err := e.Inspect(ctx, ref)
		if err != nil {
			return nil, err
		}
		if status.State != deploy.Gone {
			statuses = append(statuses, status)
		}
	}
	return statuses, nil
}

// Named is the container of a name, running or not, with its owner. One that this provider didn't make is [deploy.Gone].
func (e *Engine) Named(ctx context.Context, name string) (deploy.Status, error) {
	found, err := e.inspect(ctx, name)
	if isNotFound(err) || (err == nil && (found.Config == nil || found.Config.Labels[LabelOwner] == "")) {
		return deploy.Status{State: deploy.Gone}, nil
	}
	if err != nil {
		return deploy.Status{}, deploy.Failed(ctx, "look for the container "+name, err)
	}
	return e.Inspect(ctx, deploy.Ref{Runtime: deploy.Container, ID: found.ID, Owner: found.Config.Labels[LabelOwner]})
}

// APIKey is the key in a container's environment, "" for none.
func (e *Engine) APIKey(ctx context.Context, ref deploy.Ref) (string, error) {
	found, err := e.inspect(ctx, ref.ID)
	if err != nil || found.Config == nil {
		return "", deploy.Failed(ctx, "inspect the container "+ref.Name, err)
	}
	return variable(found.Config.Env, vllm.EnvAPIKey), nil
}

func (e *Engine) list(ctx context.Context, owner string) ([]container.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	list, err := e.api.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", LabelOwner+"="+owner),
	})
	if err != nil {
		return nil, deploy.Failed(ctx, "list containers", err)
	}
	// The label is compared again here: what carries it may be removed.
	owned := slices.DeleteFunc(list.Items, func(item container.Summary) bool { return item.Labels[LabelOwner] != owner })
	return owned[:min(len(owned), maxOwned)], nil
}

func describe(ref deploy.Ref, found container.InspectResponse) deploy.Status {
	ref.Name = strings.TrimPrefix(found.Name, "/")
	status := deploy.Status{Ref: ref, State: deploy.Unknown, RestartCount: found.RestartCount}
	if config := found.Config; config != nil {
		status.Image = config.Image
		status.Arguments = arguments(found)
		status.SpecHash, status.Note = config.Labels[LabelSpec], config.Labels[LabelNote]
		status.Environment = withoutSecrets(config.Env)
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

// parseTime reads the engine's time; engines write the year 1 for "never".
func parseTime(text string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.Year() < 2000 {
		return time.Time{}
	}
	return at.UTC()
}

// arguments are the command line after "vllm", as the container was really made, but for the address and port, which are
// those of the machine.
func arguments(found container.InspectResponse) []string {
	line := slices.Concat(found.Config.Entrypoint, found.Config.Cmd)
	if len(line) > 0 && line[0] == vllm.Program {
		line = line[1:]
	}
	return published(line, found.HostConfig)
}

func variable(lines []string, name string) string {
	for _, line := range lines {
		if found, value, _ := strings.Cut(line, "="); found == name {
			return value
		}
	}
	return ""
}

func withoutSecrets(lines []string) map[string]string {
	variables := make(map[string]string, len(lines))
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		switch name {
		case vllm.EnvAPIKey, vllm.EnvHFToken, "HUGGING_FACE_HUB_TOKEN":
		default:
			variables[name] = value
		}
	}
	return variables
}

// addImage adds the digest, and takes the image's own variables out of the environment. An image that was removed
// since is no error.
func (e *Engine) addImage(ctx context.Context, status *deploy.Status, found container.InspectResponse) {
	if found.Image == "" || !strings.HasPrefix(found.Image, "sha256:") {
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
	for _, line := range image.Config.Env {
		name, value, _ := strings.Cut(line, "=")
		if status.Environment[name] == value {
			delete(status.Environment, name)
		}
	}
}

// digest is the one that the registry knows the image by, the image's id where it came from no registry.
func digest(image string, repoDigests []string, id string) string {
	name := image
	if at := strings.IndexByte(name, '@'); at >= 0 {
		name = name[:at]
	}
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	for _, entry := range repoDigests {
		repository, digest, _ := strings.Cut(entry, "@")
		if repository == name || strings.HasSuffix(repository, "/"+name) {
			return digest
		}
	}
	if len(repoDigests) > 0 {
		if _, digest, ok := strings.Cut(repoDigests[0], "@"); ok {
			return digest
		}
	}
	return id
}

// startSlack is by how much a line of a start may be stamped before the start's own time. An engine waits as long at least before
// it starts a container again, so that no line of an earlier start is that young.
const startSlack = 100 * time.Millisecond

// Log returns the last lines of a container's log, both streams in the order in which they were written: those of its last start,
// or of all in a loop of restarts, whose last start has often nothing to tell yet.
func (e *Engine) Log(ctx context.Context, ref deploy.Ref, lines int) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	stream, err := e.openLog(ctx, ref, lines, false)
	if err != nil {
		return nil, err
	}
	defer stream.Close() // a log that was read, or given up, has nothing left to say
	var text bytes.Buffer
	_, err = stdcopy.StdCopy(&text, &text, io.LimitReader(stream, maxLogBytes))
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return splitLines(text.String(), lines), deploy.Failed(ctx, "read the log of the container "+ref.Name, err)
	}
	return splitLines(text.String(), lines), nil
}

// Follow implements [deploy.Runtime]. Its log is that of Log.
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

// openLog opens a container's log with both streams.
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
