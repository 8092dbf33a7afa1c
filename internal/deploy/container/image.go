package container

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// The pull policies.
const (
	PullMissing = "missing"
	PullAlways  = "always"
	PullNever   = "never"
)

// HasImage reports whether the machine has the image.
func (e *Engine) HasImage(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := e.api.ImageInspect(ctx, e.options.Image)
	if isNotFound(err) {
		return false, nil
	}
	return err == nil, deploy.Failed(ctx, "look for the image "+e.options.Image, err)
}

// Ready pulls the image if the policy says so. It calls progress often.
func (e *Engine) Ready(ctx context.Context, progress func(string)) error {
	options := e.options
	if options.PullPolicy != PullAlways {
		found, err := e.HasImage(ctx)
		if err != nil || found {
			return err
		}
		if options.PullPolicy == PullNever {
			return &deploy.Error{
				Summary: "could not use the image " + options.Image, Cause: "The machine doesn't have the image, and pull_policy is \"never\".",
				WayOut: "Load the image on the machine first, or set pull_policy = \"missing\".",
			}
		}
	}
	return known(e.pull(ctx, progress))
}

func (e *Engine) pull(ctx context.Context, progress func(string)) error {
	image := e.options.Image
	op := "pull the image " + image
	credentials, err := e.options.RegistryAuth.header()
	if err != nil {
		return deploy.Failed(ctx, op, err)
	}
	stream, err := e.api.ImagePull(ctx, image, client.ImagePullOptions{RegistryAuth: credentials})
	if err != nil {
		return deploy.Failed(ctx, op, err)
	}
	defer stream.Close() // its error doesn't matter after reading
	layers := layers{}
	for message, err := range stream.JSONMessages(ctx) {
		if err == nil && message.Error != nil {
			err = errors.New(message.Error.Message)
		}
		if err != nil {
			return deploy.Failed(ctx, op, err)
		}
		if text := layers.add(message); text != "" {
			progress(text)
		}
	}
	// The stream may end without an error although the pull failed: older engines don't report all failures.
	found, err := e.HasImage(ctx)
	if err == nil && !found {
		err = &deploy.Error{Summary: "could not " + op, Cause: "The pull ended without an error, but the image is missing."}
	}
	return err
}

// header encodes the credentials for the engine, which passes them to the registry.
func (a *RegistryAuth) header() (string, error) {
	if a == nil {
		return "", nil
	}
	return authconfig.Encode(registry.AuthConfig{
		Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken,
	})
}

// Secrets lists the secret values, for masking.
func (a *RegistryAuth) Secrets() []string {
	if a == nil {
		return nil
	}
	return []string{a.Password, a.IdentityToken}
}

// layers is the progress of a pull, by layer.
type layers map[string]layer

type layer struct {
	current, total int64
	done           bool
}

// add adds a message of the pull's stream, and returns the progress of the whole pull.
func (l layers) add(message jsonstream.Message) string {
	if message.ID == "" || strings.HasPrefix(message.Status, "Pulling from") {
		return message.Status
	}
	entry := l[message.ID]
	switch message.Status {
	case "Downloading":
		if message.Progress != nil {
			entry.current = message.Progress.Current
			entry.total = max(entry.total, message.Progress.Total)
		}
	case "Download complete", "Already exists", "Pull complete":
		entry.current = entry.total
		entry.done = entry.done || message.Status != "Download complete"
	}
	l[message.ID] = entry
	var current, total int64
	done := 0
	for _, entry := range l {
		current += entry.current
		total += entry.total
		if entry.done {
			done++
		}
	}
	return fmt.Sprintf("%.1f of %.1f GB downloaded, %d of %d layers ready", float64(current)/1e9, float64(total)/1e9, done, len(l))
}
