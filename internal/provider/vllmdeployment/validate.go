package vllmdeployment

import (
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

// ValidateConfig judges the arguments together, as vLLM would.
func (r *Resource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config model
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	spec, diags := config.spec(ctx, secrets{apiKey: config.APIKeyWO.ValueString(), hfToken: config.HFTokenWO.ValueString()})
	resp.Diagnostics.Append(diags...)
	if spec.APIKey == "" {
		spec.APIKey = config.APIKey.ValueString()
	}
	if spec.HFToken == "" {
		spec.HFToken = config.HFToken.ValueString()
	}
	if config.Model.IsUnknown() {
		spec.Model = notKnown
	}
	spec.TensorParallelSize = max(spec.TensorParallelSize, 0) // the attribute's validator refuses less
	if problems, ok := errors.AsType[*vllm.SpecError](spec.Validate()); ok {
		for _, problem := range problems.Problems {
			if validated[problem.Field] {
				continue
			}
			at := path.Empty()
			if name, ok := fields[problem.Field]; ok {
				at = path.Root(name)
			}
			resp.Diagnostics.AddAttributeError(at, "Invalid "+problem.Field, problem.String()+".")
		}
	}
	if config.Runtime.ValueString() == string(deploy.Container) && config.Container.IsNull() {
		resp.Diagnostics.AddAttributeError(path.Root("container"), "Image is missing",
			"runtime = \"container\" needs container = { image = \"vllm/vllm-openai:vX.Y.Z\" }: pin the vLLM release that you want to run.")
	}
	resp.Diagnostics.Append(config.validateTLS(ctx)...)
	resp.Diagnostics.Append(config.validateOptions(ctx)...)
}

// validateOptions judges how the server is run as deploy would at apply. What has a
// validator of its own has been judged.
func (m model) validateOptions(ctx context.Context) diag.Diagnostics {
	const good = "vllm/vllm-openai:v0.33.0"
	container, diags := m.containerOptions(ctx)
	process, d := m.processOptions(ctx)
	diags.Append(d...)
	if diags.HasError() {
		return diags
	}
	container.Image, container.Name, container.PullPolicy, process.Install = good, "", "", ""
	for _, problem := range reasons(container.Validate("vllm")) {
		diags.AddAttributeError(path.Root("container"), "Invalid container", "container: "+problem+".")
	}
	for _, problem := range reasons(process.Validate("vllm")) {
		diags.AddAttributeError(path.Root("process"), "Invalid process", problem+".")
	}
	return diags
}

// reasons are what an error of the options says, one by one and without what was
// attempted.
func reasons(err error) []string {
	if err == nil {
		return nil
	}
	if cause := errors.Unwrap(err); cause != nil {
		err = cause
	}
	return strings.Split(err.Error(), "\n")
}

// validated are fields whose attributes have validators that say the same.
var validated = map[string]bool{
	"dtype": true, "max_model_len": true, "gpu_memory_utilization": true, "pipeline_parallel_size": true,
	"port": true,
}

// fields are the attributes that vLLM's arguments come from, by the name that
// package vllm gives them.
var fields = map[string]string{
	"model": "model", "served_model_name": "served_model_name", "revision": "revision", "quantization": "quantization",
	"dtype": "dtype", "max_model_len": "max_model_len", "gpu_memory_utilization": "gpu_memory_utilization",
	"tensor_parallel_size": "tensor_parallel_size", "pipeline_parallel_size": "pipeline_parallel_size", "args": "args",
	"kv_cache_dtype": "kv_cache_dtype", "tool_call_parser": "tool_call_parser", "reasoning_parser": "reasoning_parser",
	"lora_adapters": "lora_adapters",
	"env":           "env", "port": "port", "api_key": "api_key", "hf_token": "hf_token",
}

// release is the vLLM that will run, "" where that isn't known: by the image's tag or process.version, else, where those
// stay as they are, the one that has run.
func (m model) release(ctx context.Context, state model) string {
	container, d := m.containerOptions(ctx)
	process, more := m.processOptions(ctx)
	if d.HasError() || more.HasError() || m.Runtime.IsUnknown() || m.Container.IsUnknown() || m.Process.IsUnknown() {
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

// warnFlags tells which of args the release that will run probably refuses. It is no error: a release may know more than
// was recorded of it, and a plan that fails would keep a machine from being destroyed.
func (m model) warnFlags(ctx context.Context, state model, diags *diag.Diagnostics) {
	spec, d := m.spec(ctx, secrets{})
	release := m.release(ctx, state)
	if d.HasError() || release == "" {
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

// validateTLS checks that a certificate comes with its key, and the other way round.
func (m model) validateTLS(ctx context.Context) diag.Diagnostics {
	t, diags := m.tlsOf(ctx)
	if !m.isTLS() || diags.HasError() || t.Certificate.IsUnknown() || t.PrivateKey.IsUnknown() || t.PrivateKeyWO.IsUnknown() {
		return diags
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
	return diags
}
