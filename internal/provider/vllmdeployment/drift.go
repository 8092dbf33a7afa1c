package vllmdeployment

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// launchedKey is where private state keeps how the server was launched.
const launchedKey = "launched"

// launched is the server as it was when it had been proved. It holds no secret:
// the prints are fingerprints.
type launched struct {
	Image       string
	Digest      string
	Arguments   []string
	Environment map[string]string
	APIKeyPrint string
	HFPrint     string
	Kills       deploy.Kills
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

func keepLaunched(ctx context.Context, write privateWriter, status deploy.Status) diag.Diagnostics {
	value, err := json.Marshal(launchedFrom(status))
	if err != nil {
		return diag.Diagnostics{diag.NewErrorDiagnostic("The provider has a defect", err.Error())}
	}
	return write.SetKey(ctx, launchedKey, value)
}

// readLaunched reports false where nothing was kept, such as for a tainted resource.
func readLaunched(ctx context.Context, read privateReader) (launched, bool) {
	var was launched
	value, _ := read.GetKey(ctx, launchedKey)
	return was, len(value) > 0 && json.Unmarshal(value, &was) == nil
}

// showDrift sets the attributes that describe the server differently from how it
// now runs, so that the next plan shows the difference where it is.
func (m *model) showDrift(ctx context.Context, was launched, now deploy.Status) diag.Diagnostics {
	var diags diag.Diagnostics
	if now.Image != "" && was.Image != now.Image && !m.Container.IsNull() {
		m.Container = with(ctx, m.Container, "image", types.StringValue(now.Image), &diags)
	}
	before, after := parseLine(ctx, was.Arguments), parseLine(ctx, now.Arguments)
	if before.model != after.model {
		m.Model = types.StringValue(after.model)
	}
	for name, set := range m.setters(ctx) {
		if before.flags[name] != after.flags[name] {
			set(after.flags[name])
		}
	}
	if !slices.Equal(before.rest, after.rest) {
		list, d := types.ListValueFrom(ctx, types.StringType, after.rest)
		diags.Append(d...)
		m.Args = list
	}
	diags.Append(m.showEnvironment(ctx, was, now)...)
	if was.APIKeyPrint != now.APIKeyPrint {
		forget(&m.APIKey, &m.APIKeyWOVersion)
	}
	if was.HFPrint != now.HFTokenPrint {
		forget(&m.HFToken, &m.HFTokenWOVersion)
	}
	return diags
}

// forget marks a secret as not the server's any more: what it has instead isn't known.
func forget(secret *types.String, version *types.Int64) {
	if secret.IsNull() {
		*version = types.Int64Null()
	}
	*secret = types.StringNull()
}

// with is the object with one attribute changed.
func with(ctx context.Context, object types.Object, name string, value attr.Value, diags *diag.Diagnostics) types.Object {
	attributes := maps.Clone(object.Attributes())
	attributes[name] = value
	changed, d := types.ObjectValue(object.AttributeTypes(ctx), attributes)
	diags.Append(d...)
	return changed
}

// setters set the attribute of each flag to the flag's value, "" for a flag that
// isn't given.
func (m *model) setters(ctx context.Context) map[string]func(string) {
	word := func(to *types.String) func(string) { return func(s string) { *to = text(s) } }
	count := func(to *types.Int64) func(string) {
		return func(s string) {
			n, _ := strconv.Atoi(s) // not a number: as if it weren't given
			*to = number(n)
		}
	}
	return map[string]func(string){
		"--served-model-name": word(&m.ServedModelName), "--revision": word(&m.Revision), "--quantization": word(&m.Quantization),
		"--dtype": word(&m.DType), "--max-model-len": count(&m.MaxModelLen), "--port": count(&m.Port),
		"--tensor-parallel-size": count(&m.TensorParallelSize), "--pipeline-parallel-size": count(&m.PipelineParallelSize),
		"--gpu-memory-utilization": func(s string) {
			m.GPUMemoryUtilization = types.Float64Null()
			if share, err := strconv.ParseFloat(s, 64); err == nil {
				m.GPUMemoryUtilization = types.Float64Value(share)
			}
		},
		"--trust-remote-code": func(s string) { m.TrustRemoteCode = types.BoolValue(s != "") },
		"--host": func(s string) {
			m.Exposure = types.StringValue(public)
			if s == vllm.DefaultListen {
				m.Exposure = types.StringValue(private)
			}
		},
		"--ssl-certfile": func(string) { m.TLS = types.ObjectNull(m.TLS.AttributeTypes(ctx)) },
	}
}

// line is a command line of vLLM, taken apart.
type line struct {
	model string
	flags map[string]string // those that have an attribute
	rest  []string
}

func parseLine(ctx context.Context, arguments []string) line {
	l := line{flags: map[string]string{}}
	if len(arguments) > 1 && arguments[0] == "serve" && !strings.HasPrefix(arguments[1], "-") {
		l.model, arguments = arguments[1], arguments[2:]
	}
	known := new(model).setters(ctx)
	for i := 0; i < len(arguments); i++ {
		name, value, inOne := strings.Cut(arguments[i], "=")
		_, ok := known[name]
		switch {
		case name == "--trust-remote-code":
			l.flags[name] = "true"
		case ok && inOne:
			l.flags[name] = value
		case (ok || name == "--ssl-keyfile" || name == vllm.DrainFlag) && i+1 < len(arguments):
			l.flags[name] = arguments[i+1]
			i++
		default:
			l.rest = append(l.rest, arguments[i])
		}
	}
	return l
}

// showEnvironment compares the variables. Those that came with the image are left
// out of both; where that can't be told, because the image is gone or another one,
// only the ones that were set are compared.
func (m *model) showEnvironment(ctx context.Context, was launched, now deploy.Status) diag.Diagnostics {
	actual := map[string]string{}
	for name, value := range now.Environment {
		if _, ours := was.Environment[name]; ours || was.Digest == now.ImageDigest {
			actual[name] = value
		}
	}
	if maps.Equal(was.Environment, actual) {
		return nil
	}
	var written map[string]types.String
	var diags diag.Diagnostics
	if !m.Env.IsNull() {
		diags = m.Env.ElementsAs(ctx, &written, false)
	}
	for name := range actual {
		if _, mine := written[name]; !mine && was.Environment[name] == actual[name] {
			delete(actual, name) // one of the provider's own
		}
	}
	env, d := types.MapValueFrom(ctx, types.StringType, actual)
	diags.Append(d...)
	m.Env = env
	return diags
}
