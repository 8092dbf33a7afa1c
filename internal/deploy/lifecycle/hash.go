package lifecycle

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// wanted turns a request into what a runtime starts.
func (l *launch) wanted() (deploy.Wanted, error) {
	spec := l.request.Spec
	w := deploy.Wanted{
		Name: l.request.Name, Owner: l.request.Owner, Provider: l.request.Provider,
		Port: spec.ListenPort(), Listen: spec.ListenAddress(),
		APIKeyPrint:  deploy.Fingerprint(l.request.Owner, spec.APIKey),
		HFTokenPrint: deploy.Fingerprint(l.request.Owner, spec.HFToken),
	}
	w.HeldBefore = l.heldBefore()
	if tls := l.request.TLS; tls != nil {
		w.Certificate, w.Key = tls.Certificate, tls.Key
		spec.TLSCertFile, spec.TLSKeyFile = l.runtime.TLSFiles()
	}
	spec.DrainSeconds = l.drainSeconds()
	w.Arguments, w.Environment = spec.CommandLine(), spec.Environment()
	var err error
	w.Hash, err = specHash(l.runtime.Kind(), l.request, w)
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
func specHash(kind deploy.Kind, request Request, wanted deploy.Wanted) (string, error) {
	environment := map[string]string{}
	for name, value := range wanted.Environment {
		if name != vllm.EnvAPIKey && name != vllm.EnvHFToken {
			environment[name] = value
		}
	}
	content := struct {
		Runtime     deploy.Kind
		Arguments   []string
		Environment map[string]string
		Certificate string
		Container   *container.Options `json:",omitempty"`
		Process     *process.Options   `json:",omitempty"`
	}{Runtime: kind, Arguments: wanted.Arguments, Environment: environment, Certificate: wanted.Certificate}
	switch kind {
	case deploy.Container:
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
