package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/server"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Fingerprint identifies a secret of a deployment without telling it, to be compared with [Status.APIKeyPrint] and
// [Status.HFTokenPrint]. It is "" for an empty secret.
func Fingerprint(owner, secret string) string { return server.Fingerprint(owner, secret) }

// SameSecret tells whether a fingerprint is that of a secret.
func SameSecret(fingerprint, owner, secret string) bool {
	return server.Same(fingerprint, owner, secret)
}

// wanted turns a request into what a runtime starts.
func (l *launch) wanted() (server.Wanted, error) {
	spec := l.request.Spec
	w := server.Wanted{
		Name: l.request.Name, Owner: l.request.Owner, Provider: l.request.Provider, Note: l.request.Note,
		Port: spec.ListenPort(), Listen: spec.ListenAddress(),
		APIKeyPrint:  Fingerprint(l.request.Owner, spec.APIKey),
		HFTokenPrint: Fingerprint(l.request.Owner, spec.HFToken),
	}
	w.HeldBefore = l.heldBefore()
	if tls := l.request.TLS; tls != nil {
		w.Certificate, w.Key = tls.Certificate, tls.Key
		spec.TLSCertFile, spec.TLSKeyFile = l.runtime.tlsFiles()
	}
	spec.DrainSeconds = l.drainSeconds()
	w.Arguments, w.Environment = spec.CommandLine(), spec.Environment()
	var err error
	w.Hash, err = specHash(l.runtime.kind(), l.request, w)
	return w, err
}

// heldBefore is what the GPUs hold before the start, without what a server of the deployment holds that makes room first.
func (l *launch) heldBefore() []int {
	for _, own := range l.facts.Own {
		if own.State.Alive() && len(own.HeldBefore) > 0 {
			return own.HeldBefore
		}
	}
	held := make([]int, 0, len(l.facts.GPUs))
	for _, gpu := range l.facts.GPUs {
		held = append(held, gpu.UsedMiB)
	}
	return held
}

// specHash identifies everything that a restart would be needed for, but the secrets: those have fingerprints.
func specHash(kind Kind, request Request, wanted server.Wanted) (string, error) {
	environment := map[string]string{}
	for name, value := range wanted.Environment {
		if name != vllm.EnvAPIKey && name != vllm.EnvHFToken {
			environment[name] = value
		}
	}
	content := struct {
		Runtime     Kind
		Arguments   []string
		Environment map[string]string
		Certificate string
		Container   *ContainerOptions `json:",omitempty"`
		Process     *ProcessOptions   `json:",omitempty"`
	}{Runtime: kind, Arguments: wanted.Arguments, Environment: environment, Certificate: wanted.Certificate}
	switch kind {
	case Container:
		options := request.Container
		options.RegistryAuth, options.PullPolicy, options.InstallEngine = nil, "", false // how it comes there doesn't change it
		content.Container = &options
	default:
		options := request.Process
		options.Install = ""
		content.Process = &options
	}
	text, err := json.Marshal(content) // maps are written in the order of their keys
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
