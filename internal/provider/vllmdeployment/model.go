package vllmdeployment

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/serverattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

type model struct {
	SessionID types.String `tfsdk:"session_id"`
	SSH       types.Object `tfsdk:"ssh"`

	Model                types.String  `tfsdk:"model"`
	ServedModelName      types.String  `tfsdk:"served_model_name"`
	Revision             types.String  `tfsdk:"revision"`
	Quantization         types.String  `tfsdk:"quantization"`
	DType                types.String  `tfsdk:"dtype"`
	MaxModelLen          types.Int64   `tfsdk:"max_model_len"`
	GPUMemoryUtilization types.Float64 `tfsdk:"gpu_memory_utilization"`
	MinVRAMGiB           types.Float64 `tfsdk:"min_vram_gib"`
	TensorParallelSize   types.Int64   `tfsdk:"tensor_parallel_size"`
	PipelineParallelSize types.Int64   `tfsdk:"pipeline_parallel_size"`
	TrustRemoteCode      types.Bool    `tfsdk:"trust_remote_code"`
	KVCacheDType         types.String  `tfsdk:"kv_cache_dtype"`
	PrefixCaching        types.Bool    `tfsdk:"enable_prefix_caching"`
	ToolCallParser       types.String  `tfsdk:"tool_call_parser"`
	ReasoningParser      types.String  `tfsdk:"reasoning_parser"`
	LoRAAdapters         types.Map     `tfsdk:"lora_adapters"`
	Args                 types.List    `tfsdk:"args"`
	Env                  types.Map     `tfsdk:"env"`
	Port                 types.Int64   `tfsdk:"port"`
	LocalPort            types.Int64   `tfsdk:"local_port"`

	APIKey           types.String `tfsdk:"api_key"`
	APIKeyWO         types.String `tfsdk:"api_key_wo"`
	APIKeyWOVersion  types.Int64  `tfsdk:"api_key_wo_version"`
	HFToken          types.String `tfsdk:"hf_token"`
	HFTokenWO        types.String `tfsdk:"hf_token_wo"`
	HFTokenWOVersion types.Int64  `tfsdk:"hf_token_wo_version"`

	Runtime   types.String `tfsdk:"runtime"`
	Container types.Object `tfsdk:"container"`
	Process   types.Object `tfsdk:"process"`
	Exposure  types.String `tfsdk:"exposure"`
	TLS       types.Object `tfsdk:"tls"`
	Preflight types.Object `tfsdk:"preflight"`
	Ready     types.Object `tfsdk:"ready"`
	OnFailure types.String `tfsdk:"on_failure"`
	Drain     types.String `tfsdk:"drain_timeout"`

	ID                types.String   `tfsdk:"id"`
	Server            types.Object   `tfsdk:"server"`
	BaseURL           types.String   `tfsdk:"base_url"`
	TunnelCommand     types.String   `tfsdk:"tunnel_command"`
	CACertificate     types.String   `tfsdk:"ca_certificate"`
	HostKey           types.String   `tfsdk:"host_key"`
	BastionHostKey    types.String   `tfsdk:"bastion_host_key"`
	ImageDigest       types.String   `tfsdk:"image_digest"`
	VLLMVersion       types.String   `tfsdk:"vllm_version"`
	ServedMaxModelLen types.Int64    `tfsdk:"served_max_model_len"`
	GPUs              types.List     `tfsdk:"gpus"`
	Status            types.String   `tfsdk:"status"`
	StartedAt         types.String   `tfsdk:"started_at"`
	LoadSeconds       types.Float64  `tfsdk:"load_seconds"`
	Timeouts          timeouts.Value `tfsdk:"timeouts"`
}

type containerModel struct {
	Image        types.String `tfsdk:"image"`
	Name         types.String `tfsdk:"name"`
	GPUs         types.String `tfsdk:"gpus"`
	ShmSize      types.String `tfsdk:"shm_size"`
	User         types.String `tfsdk:"user"`
	Cache        types.String `tfsdk:"cache"`
	PullPolicy   types.String `tfsdk:"pull_policy"`
	RegistryAuth types.Object `tfsdk:"registry_auth"`

	InstallEngine types.Bool `tfsdk:"install_engine"`
}

type registryAuthModel struct {
	Username      types.String `tfsdk:"username"`
	Password      types.String `tfsdk:"password"`
	IdentityToken types.String `tfsdk:"identity_token"`
}

type processModel struct {
	Version   types.String `tfsdk:"version"`
	Install   types.String `tfsdk:"install"`
	Directory types.String `tfsdk:"directory"`
}

type preflightModel struct {
	Ignore []types.String `tfsdk:"ignore"`
}

type readyModel struct {
	Completion types.Bool   `tfsdk:"completion"`
	Timeout    types.String `tfsdk:"timeout"`
}

type gpuModel struct {
	Index             types.Int64  `tfsdk:"index"`
	UUID              types.String `tfsdk:"uuid"`
	Name              types.String `tfsdk:"name"`
	MemoryMiB         types.Int64  `tfsdk:"memory_mib"`
	DriverVersion     types.String `tfsdk:"driver_version"`
	ComputeCapability types.String `tfsdk:"compute_capability"`
}

var gpuTypes = map[string]attr.Type{
	"index": types.Int64Type, "uuid": types.StringType, "name": types.StringType, "memory_mib": types.Int64Type,
	"driver_version": types.StringType, "compute_capability": types.StringType,
}

// spec turns the arguments into what vLLM is told. Unknown values are left out.
func (m model) spec(ctx context.Context, s secrets) (vllm.Spec, diag.Diagnostics) {
	var diags diag.Diagnostics
	spec := vllm.Spec{
		Model:                m.Model.ValueString(),
		ServedModelName:      m.ServedModelName.ValueString(),
		Revision:             m.Revision.ValueString(),
		Quantization:         m.Quantization.ValueString(),
		DType:                m.DType.ValueString(),
		MaxModelLen:          int(m.MaxModelLen.ValueInt64()),
		GPUMemoryUtilization: m.GPUMemoryUtilization.ValueFloat64(),
		TensorParallelSize:   int(m.TensorParallelSize.ValueInt64()),
		PipelineParallelSize: stages(m.PipelineParallelSize),
		TrustRemoteCode:      m.TrustRemoteCode.ValueBool(),
		KVCacheDType:         m.KVCacheDType.ValueString(),
		PrefixCaching:        m.PrefixCaching.ValueBoolPointer(),
		ToolCallParser:       m.ToolCallParser.ValueString(),
		ReasoningParser:      m.ReasoningParser.ValueString(),
		LoRAAdapters:         texts(ctx, m.LoRAAdapters, notKnown, &diags),
		Env:                  texts(ctx, m.Env, "", &diags),
		Port:                 int(m.Port.ValueInt64()),
		Listen:               m.listen(""),
		APIKey:               s.apiKey,
		HFToken:              s.hfToken,
	}
	if !m.Args.IsNull() && !m.Args.IsUnknown() {
		var args []types.String
		diags.Append(m.Args.ElementsAs(ctx, &args, false)...)
		for _, arg := range args {
			if !arg.IsUnknown() {
				spec.ExtraArgs = append(spec.ExtraArgs, arg.ValueString())
			}
		}
	}
	return spec, diags
}

// stages is the number of pipeline stages, 0 for one: vLLM needs no flag for that.
func stages(size types.Int64) int {
	if size.ValueInt64() > 1 {
		return int(size.ValueInt64())
	}
	return 0
}

// notKnown stands for a path or an id that only the apply will know.
const notKnown = "not/known"

// texts are a map's values, with a stand-in for those that aren't known, nil of a map that is null or unknown.
func texts(ctx context.Context, m types.Map, unknown string, diags *diag.Diagnostics) map[string]string {
	if m.IsNull() || m.IsUnknown() {
		return nil
	}
	values := map[string]types.String{}
	diags.Append(m.ElementsAs(ctx, &values, false)...)
	all := make(map[string]string, len(values))
	for name, value := range values {
		all[name] = value.ValueString()
		if value.IsUnknown() {
			all[name] = unknown
		}
	}
	return all
}

func (m model) containerOptions(ctx context.Context) (container.Options, diag.Diagnostics) {
	var c containerModel
	var diags diag.Diagnostics
	if m.Container.IsNull() || m.Container.IsUnknown() {
		return container.Options{}, diags
	}
	diags.Append(m.Container.As(ctx, &c, basetypes.ObjectAsOptions{})...)
	options := container.Options{
		Image:      c.Image.ValueString(),
		Name:       c.Name.ValueString(),
		GPUs:       c.GPUs.ValueString(),
		User:       c.User.ValueString(),
		Cache:      c.Cache.ValueString(),
		PullPolicy: c.PullPolicy.ValueString(),

		InstallEngine: c.InstallEngine.ValueBool(),
	}
	if size, err := units.RAMInBytes(c.ShmSize.ValueString()); err == nil { // else it isn't known yet: it was validated
		options.ShmSize = size
	}
	if !c.RegistryAuth.IsNull() && !c.RegistryAuth.IsUnknown() {
		var auth registryAuthModel
		diags.Append(c.RegistryAuth.As(ctx, &auth, basetypes.ObjectAsOptions{})...)
		options.RegistryAuth = &container.RegistryAuth{
			Username: auth.Username.ValueString(), Password: auth.Password.ValueString(), IdentityToken: auth.IdentityToken.ValueString(),
		}
	}
	return options, diags
}

func (m model) processOptions(ctx context.Context) (process.Options, diag.Diagnostics) {
	var p processModel
	if m.Process.IsNull() || m.Process.IsUnknown() {
		return process.Options{}, nil
	}
	diags := m.Process.As(ctx, &p, basetypes.ObjectAsOptions{})
	return process.Options{
		Version: p.Version.ValueString(), Install: p.Install.ValueString(), Directory: p.Directory.ValueString(),
	}, diags
}

// kind is the runtime that is asked for. Left to the provider it is the one that
// is described; with both described, the machine decides.
func (m model) kind() deploy.Kind {
	if kind := deploy.Kind(m.Runtime.ValueString()); kind == deploy.Container || kind == deploy.Process {
		return kind
	}
	switch {
	case m.Container.IsNull():
		return deploy.Process
	case m.Process.IsNull():
		return deploy.Container
	}
	return deploy.Auto
}

// readiness is how the model is proved.
type readiness struct {
	completion bool
	timeout    time.Duration // 0 = not given
}

func (m model) readiness(ctx context.Context) (readiness, diag.Diagnostics) {
	if m.Ready.IsNull() || m.Ready.IsUnknown() {
		return readiness{completion: true}, nil
	}
	var ready readyModel
	diags := m.Ready.As(ctx, &ready, basetypes.ObjectAsOptions{})
	timeout, err := time.ParseDuration(ready.Timeout.ValueString())
	if err != nil {
		timeout = 0 // not given: the validator has seen it
	}
	return readiness{completion: ready.Completion.IsNull() || ready.Completion.ValueBool(), timeout: timeout}, diags
}

// drainTimeout is how long running requests may go on, nil where it isn't given.
func (m model) drainTimeout() *time.Duration {
	limit, err := time.ParseDuration(m.Drain.ValueString())
	if err != nil {
		return nil // not given: the validator has seen it
	}
	return &limit
}

// drainTime is the longest that a stop of the server waits for requests.
func (m model) drainTime() time.Duration {
	return lifecycle.Request{DrainTimeout: m.drainTimeout()}.Drain()
}

// serverName is the server's name on its machine.
func (m model) serverName(options container.Options) string {
	if options.Name != "" {
		return options.Name
	}
	return fmt.Sprintf("vllm-%d", m.port())
}

func (m model) port() int {
	if port := int(m.Port.ValueInt64()); port > 0 {
		return port
	}
	return vllm.DefaultPort
}

// localPort is the port of the user's computer that tunnel_command opens.
func (m model) localPort() int {
	if port := int(m.LocalPort.ValueInt64()); port > 0 {
		return port
	}
	return m.port()
}

func (m model) sshOf(ctx context.Context) (sshattr.Model, diag.Diagnostics) {
	var ssh sshattr.Model
	if m.SSH.IsNull() || m.SSH.IsUnknown() {
		return ssh, nil
	}
	diags := m.SSH.As(ctx, &ssh, basetypes.ObjectAsOptions{})
	return ssh, diags
}

// ref is what the server is found by.
func (m model) ref(ctx context.Context) (deploy.Ref, diag.Diagnostics) {
	return serverattr.Ref(ctx, m.Server)
}

// setStatus fills in what is known of the server once it has been proved.
func (m *model) setStatus(ctx context.Context, status deploy.Status, ssh sshattr.Model) diag.Diagnostics {
	var diags diag.Diagnostics
	m.setInspected(status)
	diags.Append(m.setServer(ctx, status.Ref)...)
	m.VLLMVersion = attrs.Text(status.VLLMVersion)
	m.ServedMaxModelLen = attrs.Number(status.ServedMaxModelLen)
	m.LoadSeconds = types.Float64Value(float64(int(status.LoadSeconds*10)) / 10)
	diags.Append(m.setGPUs(ctx, status.GPUs)...)
	diags.Append(m.setReach(ctx, ssh)...)
	return diags
}

func (m *model) setGPUs(ctx context.Context, gpus []deploy.GPU) diag.Diagnostics {
	all := make([]gpuModel, 0, len(gpus))
	for _, gpu := range gpus {
		all = append(all, gpuModel{
			Index: types.Int64Value(int64(gpu.Index)), UUID: attrs.Text(gpu.UUID), Name: attrs.Text(gpu.Name),
			MemoryMiB:     attrs.Number(gpu.MemoryMiB),
			DriverVersion: attrs.Text(gpu.DriverVersion), ComputeCapability: attrs.Text(gpu.ComputeCapability),
		})
	}
	list, diags := types.ListValueFrom(ctx, types.ObjectType{AttrTypes: gpuTypes}, all)
	m.GPUs = list
	return diags
}

func (m *model) setServer(ctx context.Context, ref deploy.Ref) diag.Diagnostics {
	server, diags := serverattr.Object(ctx, ref)
	m.Server = server
	return diags
}

// setInspected fills in what a look at the server tells.
func (m *model) setInspected(status deploy.Status) {
	m.ID = types.StringValue(status.ID)
	m.Status = types.StringValue(condition(status))
	m.ImageDigest = attrs.Text(status.ImageDigest)
	m.StartedAt = types.StringNull()
	if !status.StartedAt.IsZero() {
		m.StartedAt = types.StringValue(status.StartedAt.UTC().Format(time.RFC3339))
	}
}
