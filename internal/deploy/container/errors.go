package container

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Error is what every function of this package returns when it fails. It holds no secret.
type Error struct {
	// Op says what was attempted, to be read after "could not".
	Op string
	// Code names a cause that callers may want to tell apart; "" otherwise.
	Code Code
	// Kind is what is wrong with the machine; "" when that isn't the cause.
	Kind vllm.Kind
	// Cause and WayOut are a sentence each; both empty when the cause isn't known.
	Cause, WayOut string
	Err           error
}

// Code names a cause.
type Code string

// The causes.
const (
	// NoEngine: the machine has no container engine at all.
	NoEngine Code = "no engine"
	// NoInstall: an engine could not be installed.
	NoInstall Code = "not installed"
	// EngineUnreachable: there is an engine, and it doesn't answer this user.
	EngineUnreachable Code = "engine unreachable"
	// NameTaken: a container that isn't ours has the name.
	NameTaken Code = "name taken"
	// NoImage: the image can't be had.
	NoImage Code = "no image"
	// BadOptions: the options can't be used.
	BadOptions Code = "invalid options"
)

// Error says what failed and why.
func (e *Error) Error() string {
	text := "could not " + e.Op
	if e.Cause != "" {
		text += ": " + e.Cause
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first [*Error] in err's chain, "" when there is none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// failed wraps an error of the Docker client, which doesn't always keep the context's error in the chain.
func failed(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err)
	}
	return &Error{Op: op, Err: err}
}

// known adds a cause to an engine's error by its text, which is all that engines give.
func known(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Err == nil || e.Cause != "" {
		return err
	}
	if diagnosis, ok := vllm.DiagnoseEngine(e.Err.Error()); ok {
		e.Kind, e.Cause, e.WayOut = diagnosis.Kind, diagnosis.Cause, diagnosis.WayOut
		return err
	}
	text := strings.ToLower(e.Err.Error())
	for _, row := range engineWords {
		if containsAny(text, row.words) {
			e.Code, e.Cause, e.WayOut = row.code, row.cause, row.wayOut
			break
		}
	}
	return err
}

// engineWords are what Docker, Podman, containerd and registries say of an image, in lower case.
var engineWords = []struct {
	words         []string
	code          Code
	cause, wayOut string
}{
	{
		[]string{"toomanyrequests", "rate limit"},
		NoImage, "The registry limits how often this machine may pull.",
		"Give registry_auth for the registry, or try again later.",
	},
	{
		[]string{"manifest unknown", "manifest for", "not found: manifest"},
		NoImage, "The registry has no such tag.",
		"Check the tag or digest of container.image.",
	},
	{
		[]string{"pull access denied", "unauthorized", "authentication required", "requested access to the resource is denied", "repository does not exist"},
		NoImage, "The registry refuses the image, or has none of that name.",
		"Check the name in container.image; for a private image give registry_auth.",
	},
	{
		[]string{"no matching manifest"},
		NoImage, "The image isn't made for this machine's processor.",
		"Choose an image, or a machine, of the other architecture.",
	},
	{
		[]string{"no such host", "i/o timeout", "tls handshake timeout", "connection refused", "network is unreachable"},
		NoImage,
		"The engine can't reach the registry.", "Check the machine's network and name resolution, then apply again.",
	},
}

func containsAny(text string, words []string) bool {
	for _, word := range words {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

func isNotFound(err error) bool { return err != nil && errdefs.IsNotFound(err) }
