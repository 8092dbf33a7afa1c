package vllmdeployment

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// launchedKey is where private state keeps how the server was launched.
const launchedKey = "launched"

// launched is the server as it was when it first answered. It holds no secret: the prints are fingerprints.
type launched struct {
	Image       string
	Digest      string
	Arguments   []string
	Environment map[string]string
	APIKeyPrint string
	HFPrint     string
	Kills       deploy.Kills
	// Adapters are the LoRA adapters of the run that Run identifies, if some were loaded without a restart. Any other run has those
	// of Arguments. Run is "" if none were loaded without a restart.
	Adapters map[string]string
	Run      string
}

func launchedFrom(s deploy.Status) launched {
	return launched{
		Image: s.Image, Digest: s.ImageDigest, Arguments: s.Arguments, Environment: s.Environment,
		APIKeyPrint: s.APIKeyPrint, HFPrint: s.HFTokenPrint, Kills: s.Kills,
	}
}

// privateReader and privateWriter are a resource's private state.
type privateReader interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
}

type privateWriter interface {
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}

func (l launched) keep(ctx context.Context, write privateWriter) diag.Diagnostics {
	value, err := json.Marshal(l)
	if err != nil {
		return diag.Diagnostics{diag.NewErrorDiagnostic("The provider has a defect", err.Error())}
	}
	return write.SetKey(ctx, launchedKey, value)
}

// readLaunched reports false if nothing was kept, such as for a tainted resource.
func readLaunched(ctx context.Context, read privateReader) (launched, bool) {
	var was launched
	value, _ := read.GetKey(ctx, launchedKey)
	return was, len(value) > 0 && json.Unmarshal(value, &was) == nil
}

// showDrift sets each attribute that no longer matches the running server to the server's value, so that the next plan
// shows the difference at that attribute.
func (m *model) showDrift(ctx context.Context, was launched, now deploy.Status, diags *diag.Diagnostics) {
	if now.Image != "" && was.Image != now.Image && !m.Container.IsNull() {
		m.Container = with(ctx, m.Container, "image", types.StringValue(now.Image), diags)
	}
	before, after := vllm.ParseCommandLine(was.Arguments), vllm.ParseCommandLine(now.Arguments)
	if was.Run != "" {
		before.LoRAAdapters = was.Adapters
	}
	if was.Run == runOf(now) {
		after.LoRAAdapters = was.Adapters
	}
	m.showSpec(ctx, before, after, diags)
	m.showEnvironment(ctx, was, now, diags)
	if was.APIKeyPrint != now.APIKeyPrint {
		forget(&m.APIKey, &m.APIKeyWOVersion)
	}
	if was.HFPrint != now.HFTokenPrint {
		forget(&m.HFToken, &m.HFTokenWOVersion)
	}
}

// forget marks a secret that the server no longer has. Which one it has instead isn't known.
func forget(secret *types.String, version *types.Int64) {
	if secret.IsNull() {
		*version = types.Int64Null()
	}
	*secret = types.StringNull()
}

// with returns the object with one attribute changed.
func with(ctx context.Context, object types.Object, name string, value attr.Value, diags *diag.Diagnostics) types.Object {
	attributes := maps.Clone(object.Attributes())
	attributes[name] = value
	changed, d := types.ObjectValue(object.AttributeTypes(ctx), attributes)
	diags.Append(d...)
	return changed
}

// showSpec sets the attributes in which two command lines differ.
func (m *model) showSpec(ctx context.Context, before, after vllm.Spec, diags *diag.Diagnostics) {
	drift(&m.Model, before.Model, after.Model, attrs.Text)
	drift(&m.ServedModelName, before.ServedModelName, after.ServedModelName, attrs.Text)
	drift(&m.Revision, before.Revision, after.Revision, attrs.Text)
	drift(&m.Quantization, before.Quantization, after.Quantization, attrs.Text)
	drift(&m.DType, before.DType, after.DType, attrs.Text)
	drift(&m.MaxModelLen, before.MaxModelLen, after.MaxModelLen, attrs.Number)
	drift(&m.Port, before.Port, after.Port, attrs.Number)
	drift(&m.TensorParallelSize, before.TensorParallelSize, after.TensorParallelSize, attrs.Number)
	drift(&m.PipelineParallelSize, before.PipelineParallelSize, after.PipelineParallelSize, func(size int) types.Int64 {
		return types.Int64Value(int64(max(size, 1)))
	})
	drift(&m.GPUMemoryUtilization, before.GPUMemoryUtilization, after.GPUMemoryUtilization, attrs.Decimal)
	drift(&m.KVCacheDType, before.KVCacheDType, after.KVCacheDType, attrs.Text)
	drift(&m.ToolCallParser, before.ToolCallParser, after.ToolCallParser, attrs.Text)
	drift(&m.ReasoningParser, before.ReasoningParser, after.ReasoningParser, attrs.Text)
	if was, is := types.BoolPointerValue(before.PrefixCaching), types.BoolPointerValue(after.PrefixCaching); !was.Equal(is) {
		m.PrefixCaching = is
	}
	if (before.LoRAAdapters == nil) != (after.LoRAAdapters == nil) || !maps.Equal(before.LoRAAdapters, after.LoRAAdapters) {
		m.setAdapters(ctx, after.LoRAAdapters, diags)
	}
	drift(&m.TrustRemoteCode, before.TrustRemoteCode, after.TrustRemoteCode, types.BoolValue)
	drift(&m.Exposure, before.Listen, after.Listen, func(listen string) types.String {
		if listen == vllm.DefaultListen {
			return types.StringValue(private)
		}
		return types.StringValue(public)
	})
	drift(&m.TLS, before.TLSCertFile, after.TLSCertFile, func(string) types.Object {
		return types.ObjectNull(m.TLS.AttributeTypes(ctx))
	})
	if !slices.Equal(before.ExtraArgs, after.ExtraArgs) {
		list, d := types.ListValueFrom(ctx, types.StringType, after.ExtraArgs)
		diags.Append(d...)
		m.Args = list
	}
}

// drift sets an attribute to the value of after if that differs from before.
func drift[S comparable, T any](attribute *T, before, after S, value func(S) T) {
	if before != after {
		*attribute = value(after)
	}
}

// showEnvironment sets env if the server's variables have changed. Variables of the image don't count. If the image is
// gone or a different one they can't be recognized, and only the variables that were set are compared.
func (m *model) showEnvironment(ctx context.Context, was launched, now deploy.Status, diags *diag.Diagnostics) {
	actual := map[string]string{}
	for name, value := range now.Environment {
		if _, ours := was.Environment[name]; ours || was.Digest == now.ImageDigest {
			actual[name] = value
		}
	}
	if maps.Equal(was.Environment, actual) {
		return
	}
	written := m.Env.Elements()
	maps.DeleteFunc(actual, func(name, value string) bool {
		return written[name] == nil && was.Environment[name] == value // the provider's own
	})
	env, d := types.MapValueFrom(ctx, types.StringType, actual)
	diags.Append(d...)
	m.Env = env
}
