package vllmdeployment

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

var (
	portPath     = path.Root("port")
	tlsPath      = path.Root("tls")
	exposurePath = path.Root("exposure")
	argsPath     = path.Root("args")
	drainPath    = path.Root("drain_timeout")
)

// ValidateConfig validates the arguments together.
func (r *Resource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config model
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	spec := config.spec(ctx, secrets{
		apiKey:  cmp.Or(config.APIKeyWO.ValueString(), config.APIKey.ValueString()),
		hfToken: cmp.Or(config.HFTokenWO.ValueString(), config.HFToken.ValueString()),
	}, &resp.Diagnostics)
	if config.Model.IsUnknown() {
		spec.Model = notKnown
	}
	spec.TensorParallelSize = max(spec.TensorParallelSize, 0) // the attribute's validator reports less
	if problems, ok := errors.AsType[*vllm.SpecError](spec.Validate()); ok {
		for _, problem := range problems.Problems {
			if validated[problem.Field] {
				continue
			}
			at := path.Empty()
			if _, ok := r.schema(ctx).Attributes[problem.Field]; ok {
				at = path.Root(problem.Field)
			}
			resp.Diagnostics.AddAttributeError(at, "Invalid "+problem.Field, problem.String()+".")
		}
	}
	if config.Runtime.ValueString() == string(deploy.Container) && config.Container.IsNull() {
		resp.Diagnostics.AddAttributeError(path.Root("container"), "Image is missing",
			"runtime = \"container\" needs container = { image = \"vllm/vllm-openai:vX.Y.Z\" }: pin the vLLM release that you want to run.")
	}
	config.validateTLS(ctx, &resp.Diagnostics)
	config.validateOptions(ctx, &resp.Diagnostics)
}

// validateOptions validates how the server is run, as package deploy does during apply. It replaces options that have their
// own validators by valid ones.
func (m model) validateOptions(ctx context.Context, diags *diag.Diagnostics) {
	const good = "vllm/vllm-openai:v0.33.0"
	container, process := m.containerOptions(ctx, diags), m.processOptions(ctx, diags)
	container.Image, container.Name, container.PullPolicy, process.Install = good, "", "", ""
	for _, problem := range reasons(container.Validate("vllm")) {
		diags.AddAttributeError(path.Root("container"), "Invalid container", "container: "+problem+".")
	}
	for _, problem := range reasons(process.Validate("vllm")) {
		diags.AddAttributeError(path.Root("process"), "Invalid process", problem+".")
	}
}

// reasons are the single causes in an error of the options.
func reasons(err error) []string {
	if err == nil {
		return nil
	}
	if cause := errors.Unwrap(err); cause != nil {
		err = cause
	}
	return strings.Split(err.Error(), "\n")
}

// validated are the fields whose attributes have validators that report the same problems.
var validated = map[string]bool{
	"dtype": true, "max_model_len": true, "gpu_memory_utilization": true, "pipeline_parallel_size": true,
	"port": true,
}

// release is the vLLM release that will run, "" if that isn't known. It comes from the image's tag or process.version, else
// from the running server if container and process stay unchanged.
func (m model) release(ctx context.Context, state model) string {
	var diags diag.Diagnostics
	container, process := m.containerOptions(ctx, &diags), m.processOptions(ctx, &diags)
	if diags.HasError() || m.Runtime.IsUnknown() || m.Container.IsUnknown() || m.Process.IsUnknown() {
		return ""
	}
	release := process.Version
	tag, _ := vllm.ImageVersion(container.Image)
	switch kind := m.kind(); {
	case kind == deploy.Container:
		release = tag
	case kind == deploy.Auto && tag != release: // the machine decides
		release = ""
	}
	if release == "" && m.Container.Equal(state.Container) && m.Process.Equal(state.Process) {
		release = state.VLLMVersion.ValueString()
	}
	return release
}

// warnFlags warns of flags and values that the release that will run probably refuses. It adds no error: a release may have
// more flags than were recorded, and a plan that fails would keep a machine from being destroyed.
func (m model) warnFlags(ctx context.Context, state model, diags *diag.Diagnostics) {
	var unreadable diag.Diagnostics
	spec, release := m.spec(ctx, secrets{}, &unreadable), m.release(ctx, state)
	if unreadable.HasError() || release == "" {
		return
	}
	if m.drainTime() > 0 && !m.Drain.IsNull() && !m.Drain.IsUnknown() && !vllm.KnowsFlag(release, vllm.DrainFlag) {
		diags.AddAttributeWarning(drainPath, m.about("vLLM "+release+" does not drain"), "This release is not known to have the flag "+vllm.DrainFlag+
			": running requests are aborted when the server stops. Use a newer release.")
	}
	for flag, value := range map[string]types.String{
		"kv_cache_dtype": m.KVCacheDType, "tool_call_parser": m.ToolCallParser, "reasoning_parser": m.ReasoningParser,
	} {
		warning := vllm.ValueWarning(release, "--"+strings.ReplaceAll(flag, "_", "-"), value.ValueString())
		if value.ValueString() != "" && warning != "" {
			diags.AddAttributeWarning(path.Root(flag), m.about(flag+" may be unknown to vLLM "+release), warning+" vLLM exits at once"+
				" on an unknown value.")
		}
	}
	if warnings := vllm.FlagWarnings(release, spec.ExtraArgs); len(warnings) > 0 {
		diags.AddAttributeWarning(argsPath, m.about("Flag may be unknown to vLLM "+release), strings.Join(warnings, " ")+" vLLM exits"+
			" at once on an unknown flag. If this release has it (`vllm serve --help=all` lists its flags), ignore this warning.")
	}
}

// validateTLS checks that a certificate comes with its key, and a key with its certificate.
func (m model) validateTLS(ctx context.Context, diags *diag.Diagnostics) {
	t := m.tlsOf(ctx, diags)
	if !m.isTLS() || t.Certificate.IsUnknown() || t.PrivateKey.IsUnknown() || t.PrivateKeyWO.IsUnknown() {
		return
	}
	hasKey := !t.PrivateKey.IsNull() || !t.PrivateKeyWO.IsNull()
	switch {
	case t.Certificate.IsNull() && !hasKey: // the provider makes both
	case t.Certificate.IsNull():
		diags.AddAttributeError(tlsPath, "Certificate is missing", "tls has a private key but no certificate. Set both, or neither to"+
			" have the provider create both.")
	case !hasKey:
		diags.AddAttributeError(tlsPath, "Private key is missing", "tls has a certificate but no private key. Set private_key or"+
			" private_key_wo, or remove both to have the provider create them.")
	default:
		if err := checkPair(t.Certificate.ValueString(), t.PrivateKey.ValueString()+t.PrivateKeyWO.ValueString()); err != nil {
			diags.AddAttributeError(tlsPath, "Invalid tls", "The server's certificate can't be used: "+err.Error()+".")
		}
	}
}
