package vllmdeployment

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/serverattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
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
	Username        types.String `tfsdk:"username"`
	Password        types.String `tfsdk:"password"`
	PasswordWO      types.String `tfsdk:"password_wo"`
	IdentityToken   types.String `tfsdk:"identity_token"`
	IdentityTokenWO types.String `tfsdk:"identity_token_wo"`
}

type processModel struct {
	Version   types.String `tfsdk:"version"`
	Install   types.String `tfsdk:"install"`
	Directory types.String `tfsdk:"directory"`
}

type preflightModel struct {
	Ignore types.Set `tfsdk:"ignore"`
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

// spec turns the arguments into vLLM's settings. Unknown values are left out.
func (m model) spec(ctx context.Context, s secrets, diags *diag.Diagnostics) vllm.Spec {
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
		LoRAAdapters:         texts(ctx, m.LoRAAdapters, notKnown, diags),
		Env:                  texts(ctx, m.Env, "", diags),
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
	return spec
}

// stages is the number of pipeline stages, 0 for one, for which vLLM needs no flag.
func stages(size types.Int64) int {
	if size.ValueInt64() > 1 {
		return int(size.ValueInt64())
	}
	return 0
}

// notKnown stands for a path or an ID that is known only during apply.
const notKnown = "not/known"

// texts are a map's values, with a placeholder for unknown ones; nil for a map that is null or unknown.
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

func (m model) containerOptions(ctx context.Context, diags *diag.Diagnostics) container.Options {
	c := attrs.Object[containerModel](ctx, m.Container, diags)
	options := container.Options{
		Image:         c.Image.ValueString(),
		Name:          c.Name.ValueString(),
		GPUs:          c.GPUs.ValueString(),
		User:          c.User.ValueString(),
		Cache:         c.Cache.ValueString(),
		PullPolicy:    c.PullPolicy.ValueString(),
		InstallEngine: c.InstallEngine.ValueBool(),
	}
	if size, err := units.RAMInBytes(c.ShmSize.ValueString()); err == nil { // else it isn't known yet: the validator has parsed it
		options.ShmSize = size
	}
	if !c.RegistryAuth.IsNull() && !c.RegistryAuth.IsUnknown() {
		auth := attrs.Object[registryAuthModel](ctx, c.RegistryAuth, diags)
		options.RegistryAuth = &container.RegistryAuth{
			Username: auth.Username.ValueString(), Password: auth.Password.ValueString() + auth.PasswordWO.ValueString(), // never both
			IdentityToken: auth.IdentityToken.ValueString() + auth.IdentityTokenWO.ValueString(),
		}
	}
	return options
}

func (m model) processOptions(ctx context.Context, diags *diag.Diagnostics) process.Options {
	p := attrs.Object[processModel](ctx, m.Process, diags)
	return process.Options{Version: p.Version.ValueString(), Install: p.Install.ValueString(), Directory: p.Directory.ValueString()}
}

// kind is the requested runtime. With auto it is the one that is configured; if both are, the machine decides.
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

// readyTimeout is ready.timeout, 0 if it isn't configured.
func (m model) readyTimeout(ctx context.Context, diags *diag.Diagnostics) time.Duration {
	return validate.Span(attrs.Object[readyModel](ctx, m.Ready, diags).Timeout.ValueString())
}

// drainTimeout is how long running requests may continue, nil if it isn't configured.
func (m model) drainTimeout() *time.Duration {
	limit, err := time.ParseDuration(m.Drain.ValueString())
	if err != nil {
		return nil // not configured: the validator has parsed it
	}
	return &limit
}

// drainTime is the longest time that stopping the server waits for requests.
func (m model) drainTime() time.Duration {
	return lifecycle.Request{DrainTimeout: m.drainTimeout()}.Drain()
}

// serverName is the server's name on its machine.
func (m model) serverName(options container.Options) string {
	return cmp.Or(options.Name, fmt.Sprintf("vllm-%d", m.port()))
}

func (m model) port() int { return cmp.Or(int(m.Port.ValueInt64()), vllm.DefaultPort) }

// localPort is the port on the user's computer that tunnel_command opens.
func (m model) localPort() int { return cmp.Or(int(m.LocalPort.ValueInt64()), m.port()) }

func (m model) sshOf(ctx context.Context, diags *diag.Diagnostics) sshattr.Model {
	return attrs.Object[sshattr.Model](ctx, m.SSH, diags)
}

// ref identifies the server on its machine.
func (m model) ref(ctx context.Context, diags *diag.Diagnostics) deploy.Ref {
	return serverattr.Ref(ctx, m.Server, diags)
}

// setStatus fills in the results of a server that has answered.
func (m *model) setStatus(ctx context.Context, status deploy.Status, ssh sshattr.Model, diags *diag.Diagnostics) {
	m.setInspected(ctx, status, diags)
	m.VLLMVersion = attrs.Text(status.VLLMVersion)
	m.ServedMaxModelLen = attrs.Number(status.ServedMaxModelLen)
	m.LoadSeconds = attrs.Exact(float64(int(status.LoadSeconds*10)) / 10)
	m.setGPUs(ctx, status.GPUs, diags)
	m.setReach(ctx, ssh, diags)
}

func (m *model) setGPUs(ctx context.Context, gpus []deploy.GPU, diags *diag.Diagnostics) {
	all := make([]gpuModel, 0, len(gpus))
	for _, gpu := range gpus {
		all = append(all, gpuModel{
			Index: types.Int64Value(int64(gpu.Index)), UUID: attrs.Text(gpu.UUID), Name: attrs.Text(gpu.Name),
			MemoryMiB:     attrs.Number(gpu.MemoryMiB),
			DriverVersion: attrs.Text(gpu.DriverVersion), ComputeCapability: attrs.Text(gpu.ComputeCapability),
		})
	}
	list, d := types.ListValueFrom(ctx, types.ObjectType{AttrTypes: gpuTypes}, all)
	diags.Append(d...)
	m.GPUs = list
}

// setInspected fills in what an inspection of the server reports.
func (m *model) setInspected(ctx context.Context, status deploy.Status, diags *diag.Diagnostics) {
	m.ID = types.StringValue(status.ID)
	m.Server = serverattr.Object(ctx, status.Ref, diags)
	m.Status = types.StringValue(condition(status))
	m.ImageDigest = attrs.Text(status.ImageDigest)
	m.StartedAt = attrs.Moment(status.StartedAt)
}
