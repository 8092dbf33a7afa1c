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

// HasImage tells whether the machine has the image already.
func (e *Engine) HasImage(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := e.api.ImageInspect(ctx, e.options.Image)
	if isNotFound(err) {
		return false, nil
	}
	return err == nil, deploy.Failed(ctx, "look for the image "+e.options.Image, err)
}

// Ready pulls the image where the policy says so. progress gets sentences, often.
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
	options := e.options
	op := "pull the image " + options.Image
	credentials, err := options.RegistryAuth.header()
	if err != nil {
		return deploy.Failed(ctx, op, err)
	}
	stream, err := e.api.ImagePull(ctx, options.Image, client.ImagePullOptions{RegistryAuth: credentials})
	if err != nil {
		return deploy.Failed(ctx, op, err)
	}
	defer stream.Close() // what ended the stream has been seen by then
	layers := layers{}
	for message, err := range stream.JSONMessages(ctx) {
		if err != nil {
			return deploy.Failed(ctx, op, err)
		}
		if message.Error != nil {
			return deploy.Failed(ctx, op, errors.New(message.Error.Message))
		}
		if text := layers.add(message); text != "" {
			progress(text)
		}
	}
	// The stream's end says nothing of success; older engines report some failures only by the image's absence.
	found, err := e.HasImage(ctx)
	if err == nil && !found {
		err = &deploy.Error{Summary: "could not " + op, Cause: "The pull ended without an error, but the image is missing."}
	}
	return err
}

// header is what the engine passes on to the registry.
func (a *RegistryAuth) header() (string, error) {
	if a == nil {
		return "", nil
	}
	return authconfig.Encode(registry.AuthConfig{
		Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken,
	})
}

// Secrets are the credentials' secret values, for masking.
func (a *RegistryAuth) Secrets() []string {
	if a == nil {
		return nil
	}
	return []string{a.Password, a.IdentityToken}
}

// layers sums up a pull's stream, which tells of each layer by itself. Its length is bounded by the image's own.
type layers map[string]*layer

type layer struct {
	current, total int64
	done           bool
}

// add takes in one message and returns how far the pull is, "" when the message doesn't say.
func (l layers) add(message jsonstream.Message) string {
	if message.ID == "" || strings.HasPrefix(message.Status, "Pulling from") {
		return message.Status
	}
	entry, ok := l[message.ID]
	if !ok {
		entry = &layer{}
		l[message.ID] = entry
	}
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
	return l.summary()
}

func (l layers) summary() string {
	var current, total int64
	done := 0
	for _, entry := range l {
		current += entry.current
		total += entry.total
		if entry.done {
			done++
		}
	}
	const gigabyte = 1e9
	return fmt.Sprintf("%.1f of %.1f GB downloaded, %d of %d layers ready",
		float64(current)/gigabyte, float64(total)/gigabyte, done, len(l))
}
