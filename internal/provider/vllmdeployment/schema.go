package vllmdeployment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/float64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/effect"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Schema describes the resource.
func (r *Resource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = r.schema(ctx)
}

func (r *Resource) schema(ctx context.Context) schema.Schema {
	attributes := map[string]schema.Attribute{}
	for _, group := range []map[string]schema.Attribute{placeArguments(ctx), serverArguments(), secretArguments(), results()} {
		maps.Copy(attributes, group)
	}
	return schema.Schema{
		MarkdownDescription: "A vLLM server on any machine that SSH reaches, rented or not. Creating it succeeds only after the model" +
			" has answered a real completion. When it fails, the error quotes the server's log and explains it, and nothing is left on" +
			" the machine. By default the server listens only on the machine's loopback address and is reached through SSH." +
			Effects().Markdown() +
			"\nA deployment is imported from its machine, which stores its arguments but no secrets and no `ssh`. The import logs in" +
			" with the provider's `ssh` credentials, also to a jump host. The next plan changes `ssh` if the configuration sets keys," +
			" and sets `api_key` and `hf_token`; the server is restarted only for a key that it doesn't have. A generated key is read" +
			" back from the server. `load_seconds` is null until the next start; so are `vllm_version` and `served_max_model_len` if" +
			" the server doesn't answer the import. The next apply adds LoRA adapters that were loaded after the server's start," +
			" without loading any twice.\n",
		Attributes: attributes,
	}
}

// Effects says what a change of each argument does.
func Effects() effect.Table {
	return effect.Table{
		Arguments: map[effect.Effect][]string{
			effect.InPlace: {"ssh", "local_port", "min_vram_gib", "preflight", "ready", "on_failure", "drain_timeout", "timeouts"},
			effect.Restarts: {
				"model", "served_model_name", "revision", "quantization", "dtype", "max_model_len", "gpu_memory_utilization",
				"tensor_parallel_size", "pipeline_parallel_size", "trust_remote_code", "kv_cache_dtype", "enable_prefix_caching",
				"tool_call_parser", "reasoning_parser", "lora_adapters", "args", "env", "port", "api_key", "api_key_wo_version", "hf_token",
				"hf_token_wo_version", "runtime", "container", "process", "exposure", "tls",
			},
			effect.Replaces: {"session_id"},
		},
		Notes: []string{
			"Without a `session_id`, a different `host` or `port` in `ssh` is a different machine and replaces the deployment." +
				" `pull_policy`, `registry_auth` and `install_engine` of `container` and `install` of `process` change in place. So do" +
				" `process.version` and `runtime` if the server already runs that way. Write-only arguments that have a `_version`" +
				" are used when it changes. `lora_adapters` are loaded and unloaded in place if no other change requires a restart," +
				" the server already has LoRA enabled, and `env` sets `" + vllm.EnvRuntimeLoRA + "`.",
		},
	}
}

// optional is an argument that is a string.
func optional(text string, validators ...validator.String) schema.StringAttribute {
	return schema.StringAttribute{Optional: true, MarkdownDescription: text, Validators: validators}
}

// withDefault is optional with a default.
func withDefault(value, text string, validators ...validator.String) schema.StringAttribute {
	attribute := optional(text, validators...)
	attribute.Computed, attribute.Default = true, stringdefault.StaticString(value)
	return attribute
}

// flag is an optional argument that is true or false, with a default.
func flag(value bool, text string) schema.BoolAttribute {
	return schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(value), MarkdownDescription: text}
}

// secret is a sensitive argument that can't be combined with another one beside it.
func secret(text, other string) schema.StringAttribute {
	attribute := optional(text, validate.NotEmpty(), stringvalidator.ConflictsWith(beside(other)))
	attribute.Sensitive = true
	return attribute
}

// writeOnly is a write-only argument that requires a version.
func writeOnly(text, version string) schema.StringAttribute {
	attribute := optional(text, validate.NotEmpty(), stringvalidator.AlsoRequires(beside(version)))
	attribute.Sensitive, attribute.WriteOnly = true, true
	return attribute
}

// version is the version of a write-only argument.
func version(of string) schema.Int64Attribute {
	return schema.Int64Attribute{
		Optional: true, Validators: []validator.Int64{int64validator.AlsoRequires(beside(of))},
		MarkdownDescription: "Version of `" + of + "`. Change it to apply a new value.",
	}
}

// beside matches another attribute of the same object.
func beside(name string) path.Expression { return path.MatchRelative().AtParent().AtName(name) }

func placeArguments(ctx context.Context) map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"session_id": schema.StringAttribute{
			Optional: true, Validators: []validator.String{validate.NotEmpty()},
			PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
			MarkdownDescription: "ID of the machine's `shopper_gpu_session`. Replacing the session replaces the deployment; when the" +
				" session has ended, the server counts as gone.",
		},
		"ssh": sshattr.ResourceArgument(),
		"runtime": withDefault(string(deploy.Auto),
			"How the server is run: `container`, with the machine's Docker or Podman; `process`, for machines"+
				" without either (Vast.ai's are containers themselves); or `auto`. `auto` uses whichever of `container` and `process`"+
				" is configured; of both, the first that works on the machine; with neither, `process`. `server.runtime` is the one"+
				" in use. Default `auto`.", stringvalidator.OneOf(string(deploy.Container), string(deploy.Process), string(deploy.Auto))),
		"container": containerAttribute(),
		"process":   processAttribute(),
		"exposure": withDefault(private,
			"`private`: the server listens on the machine's loopback address and is reached through SSH. `public`:"+
				" it listens on all addresses, and is ready once it has answered at the machine's address. The container engine"+
				" publishes a container's port there; `localhost` inside a container is the container itself. As a process, vLLM"+
				" before 0.28.0 opens one more port on all addresses: a private server's is closed by the machine's firewall where root or"+
				" `sudo` and `iptables` allow that, and a warning names one that stays open. vLLM requires the key only below `/v1` (newer"+
				" releases: also `/v2`, `/inference` and `/cohere`); the plan warns which routes stay open. On Vast.ai machines only"+
				" SSH is reachable. Default `private`.", stringvalidator.OneOf(private, public)),
		"tls":       tlsAttribute(),
		"preflight": preflightAttribute(),
		"ready":     readyAttribute(),
		"on_failure": withDefault(string(lifecycle.Rollback),
			"What happens to a server that fails: `rollback` removes it and, on an update, restarts the previous"+
				" one; `keep` leaves it for debugging, and the error says how to reach it. Default `rollback`.",
			stringvalidator.OneOf(string(lifecycle.Rollback), string(lifecycle.Keep))),
		"drain_timeout": optional("How long running requests may continue when an update or a destroy stops the server, such as `2m`."+
			" Default `30s`; `0s` aborts them. New requests are refused meanwhile, and an idle server stops at once. A change"+
			" restarts nothing: a longer time applies from the server's next start. It requires a vLLM release with"+
			" `--shutdown-timeout` (0.19.1 and 0.32.0 have it). If the image's tag names no release, the flag is passed"+
			" only when `drain_timeout` is set. Aborted requests are reported as a warning.", validate.Duration(0, 0, time.Second)),
		"timeouts": validate.Timeouts(timeouts.Attributes(ctx, timeouts.Opts{
			Create: true, Read: true, Update: true, Delete: true,
			CreateDescription: "From the first login to the first completion, including the image pull and the model download. Default" +
				" `60m`.",
			ReadDescription:   "Default `2m`.",
			UpdateDescription: "Default `60m`, plus `drain_timeout`.",
			DeleteDescription: "Default `10m`, plus `drain_timeout`.",
		})),
	}
}

func readyAttribute() schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		Optional:            true,
		MarkdownDescription: "When the server counts as ready.",
		Attributes: map[string]schema.Attribute{
			"completion": flag(true, "Verify the model with a completion. Set false for models that don't generate text (embedding,"+
				" reward): they are verified with the matching call instead. Default `true`."),
			"timeout": optional("How long the server may take from its start to its first answer, including the model download,"+
				" such as `20m`. Default: a share of `timeouts`.", validate.Duration(time.Second, 0, 1)),
		},
	}
}

func processAttribute() schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "How vLLM is found or installed when it runs as a process. It runs in a separate session under a" +
			" supervisor, which restarts it when it dies after its first answer.",
		Attributes: map[string]schema.Attribute{
			"version": optional("vLLM release, such as `0.33.0`. Default: the one on the machine, else the newest that the"+
				" machine's driver and GPUs support; `vllm_version` is the one in use. An older release is installed with the"+
				" packages of its time.", validate.NotEmpty()),
			"install": withDefault("missing", "`missing` installs that release with uv into a separate directory unless the machine has it;"+
				" `never` fails instead. Default `missing`.", stringvalidator.OneOf("missing", "never")),
			"directory": optional("Absolute path on the machine for installations and logs. Default `.shopper-vllm` in the user's home.",
				validate.NotEmpty()),
		},
	}
}

func tlsAttribute() schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "Serve HTTPS. With `{}` the provider creates a certificate for the machine's address. It is valid for a" +
			" year, an apply in its last month renews it, and its private key stays on the machine. Clients trust `ca_certificate`.",
		Attributes: map[string]schema.Attribute{
			"certificate": optional("Your certificate in PEM form, followed by its issuers' certificates.",
				validate.String("must be a certificate in PEM form", checkCertificate)),
			"private_key": secret("The certificate's private key in PEM form. Stored in state; `private_key_wo` is not.", "private_key_wo"),
			"private_key_wo": writeOnly("The same, but never stored in state or plan. Requires Terraform or OpenTofu 1.11 or later.",
				"private_key_wo_version"),
			"private_key_wo_version": version("private_key_wo"),
		},
	}
}

func containerAttribute() schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		Optional:            true,
		MarkdownDescription: "Container settings. Required for `runtime = \"container\"`.",
		Attributes: map[string]schema.Attribute{
			"image": schema.StringAttribute{
				Required: true, Validators: []validator.String{validate.String("must name a tag or a digest", checkImage)},
				MarkdownDescription: "vLLM's image, pinned to a tag or a digest, such as `vllm/vllm-openai:v0.33.0`.",
			},
			"name": optional("The container's name. Default `vllm-PORT`.", validate.String("must be a container name", checkContainerName)),
			"gpus": withDefault("all", "`all`, `none`, a count, or a comma-separated list of indices or UUIDs. Default `all`.", validate.NotEmpty()),
			"shm_size": withDefault("16g", "Size of the container's shared memory, such as `512m`, in powers of 1024. Default `16g`.",
				validate.String("must be a size", checkShmSize)),
			"user": optional("User, or user and group (`2000:0`), to run as. Default: the image's user.", validate.NotEmpty()),
			"cache": optional("Prefix of the volume names, or a directory on the machine, in which weights and compiled kernels"+
				" survive an update.", validate.NotEmpty()),
			"pull_policy": withDefault("missing", "When the image is pulled: `missing`, `always` or `never`. Default `missing`.",
				stringvalidator.OneOf("missing", "always", "never")),
			"install_engine": flag(false, "If the machine has no container engine with GPU support, install Docker from its distribution"+
				" (Debian or Ubuntu) and NVIDIA's container toolkit from NVIDIA's packages. This happens once, as root or with"+
				" sudo, within the create timeout. Default `false`. Machines that are containers themselves, such as Vast.ai's,"+
				" can't run an engine."),
			"registry_auth": registryAuthAttribute(),
		},
	}
}

// registryAuthAttribute has no versions of its write-only arguments: they are used whenever the image is pulled, and what runs
// doesn't depend on them.
func registryAuthAttribute() schema.SingleNestedAttribute {
	// credential is a secret. Docker sends no password without a user name
	// (https://github.com/distribution/distribution/blob/v2.8.3/registry/client/auth/session.go).
	credential := func(text string, writeOnly bool, with ...path.Expression) schema.StringAttribute {
		attribute := optional(text, validate.NotEmpty(), stringvalidator.AlsoRequires(with...))
		attribute.Sensitive, attribute.WriteOnly = true, writeOnly
		return attribute
	}
	password := credential("Password or access token. Stored in state; `password_wo` is not.", false, beside("username"))
	password.Validators = append(password.Validators,
		stringvalidator.ExactlyOneOf(beside("password_wo"), beside("identity_token"), beside("identity_token_wo")))
	return schema.SingleNestedAttribute{
		Optional:            true,
		MarkdownDescription: "Credentials for the image's registry, used whenever the image is pulled.",
		Attributes: map[string]schema.Attribute{
			"username": optional("User name.", validate.NotEmpty()),
			"password": password,
			"password_wo": credential("The same, but never stored in state or plan. Requires Terraform or OpenTofu 1.11 or later.",
				true, beside("username")),
			"identity_token":    credential("Identity token, instead of a password. Stored in state; `identity_token_wo` is not.", false),
			"identity_token_wo": credential("The same, but never stored in state or plan.", true),
		},
	}
}

func serverArguments() map[string]schema.Attribute {
	text := func(description string) schema.StringAttribute { return optional(description, validate.NotEmpty()) }
	size := func(description string) schema.Int64Attribute {
		return schema.Int64Attribute{
			Optional: true, MarkdownDescription: description, Validators: []validator.Int64{int64validator.AtLeast(1)},
		}
	}
	return map[string]schema.Attribute{
		"model": schema.StringAttribute{
			Required:            true, // validated by vllm.Spec
			MarkdownDescription: "Hugging Face ID of the model, such as `Qwen/Qwen2.5-7B-Instruct`, or a path on the machine.",
		},
		"served_model_name": text("Model name that clients request. Default: the model's ID."),
		"revision":          text("Branch, tag or commit of the model."),
		"quantization":      text("Quantization method. Usually omitted: the checkpoint specifies it, and a different value fails."),
		"dtype":             optional("Number format of weights and activations.", stringvalidator.OneOf(vllm.DTypes()...)),
		"max_model_len":     size("Maximum context length in tokens, prompt and answer together. Default: the model's maximum."),
		"gpu_memory_utilization": schema.Float64Attribute{
			Optional: true, Computed: true,
			Default:             attrs.DefaultDecimal(strconv.FormatFloat(vllm.DefaultGPUMemoryUtilization, 'g', -1, 64)),
			Validators:          []validator.Float64{float64validator.Between(0.05, 1)},
			MarkdownDescription: "Fraction of each GPU's memory that vLLM uses. Default `0.9`.",
		},
		"min_vram_gib": schema.Float64Attribute{
			Optional: true, Validators: []validator.Float64{float64validator.AtLeast(0)},
			MarkdownDescription: "Memory in GiB that each GPU must have for this model, such as `per_gpu_gib` of the function" +
				" `estimate_vram`. A machine with less fails before anything starts. It replaces the built-in estimate for well-known" +
				" models; 0 turns the estimate off.",
		},
		"tensor_parallel_size": size("Number of GPUs that share each layer. The model's attention heads must be divisible by it; its" +
			" key-value heads must be divisible by it or divide it. Default: the largest power of two that fits the model and the GPUs;" +
			" a warning reports how many GPUs stay idle. `CUDA_VISIBLE_DEVICES` in `env` selects the GPUs."),
		"pipeline_parallel_size": schema.Int64Attribute{
			Optional: true, Computed: true, Default: int64default.StaticInt64(1),
			MarkdownDescription: "Number of pipeline stages among which the layers are divided. Default `1`.",
			Validators:          []validator.Int64{int64validator.AtLeast(1)},
		},
		"trust_remote_code": flag(false, "Run Python code from the model's repository. Default `false`."),
		"kv_cache_dtype": text("Number format of the key-value cache, such as `fp8`. Default: the model's. The plan warns if the" +
			" release probably doesn't support it."),
		"enable_prefix_caching": schema.BoolAttribute{
			Optional: true, MarkdownDescription: "Reuse cached results for prompts with the same beginning. Default: vLLM decides by" +
				" the model.",
		},
		"tool_call_parser": text("Parser for the model's tool calls, such as `hermes`. Turns on automatic tool choice. The plan warns" +
			" if the release probably doesn't support it."),
		"reasoning_parser": text("Parser that separates the model's reasoning from its answer, such as `qwen3`. The plan warns if the" +
			" release probably doesn't support it."),
		"lora_adapters": schema.MapAttribute{
			Optional: true, ElementType: types.StringType,
			MarkdownDescription: "LoRA adapters: the name that clients request, and a path on the machine or a Hugging Face ID. `{}`" +
				" turns LoRA on without any, for adapters that are loaded later. With `" + vllm.EnvRuntimeLoRA + " = \"1\"` in `env`, a" +
				" change loads and unloads adapters through the server's routes, without a restart. Anyone who has the API key can" +
				" use those routes too. Such adapters are lost when the server restarts, by itself, manually or by" +
				" `shopper_restart_vllm`. The next plan shows that, and its apply loads them again.",
		},
		"args": schema.ListAttribute{
			Optional: true, ElementType: types.StringType,
			MarkdownDescription: "Additional flags of `vllm serve`, one element for each word. Flags that have their own attribute, and" +
				" secrets, are refused in any spelling. The plan warns about a flag that the release (from the image's tag or" +
				" `process.version`) probably doesn't support, and suggests the closest one.",
		},
		"env": schema.MapAttribute{
			Optional: true, ElementType: types.StringType,
			MarkdownDescription: "Additional environment variables. Don't put secrets here: `api_key` and `hf_token` have their own" +
				" attributes.",
		},
		"port": schema.Int64Attribute{
			Optional: true, Computed: true, Default: int64default.StaticInt64(vllm.DefaultPort),
			Validators:          []validator.Int64{int64validator.Between(1, 65535)},
			MarkdownDescription: "Port that the server listens on. Default `8000`.",
		},
		"local_port": schema.Int64Attribute{
			Optional: true, Validators: []validator.Int64{int64validator.Between(1, 65535)},
			MarkdownDescription: "Port on your computer for `tunnel_command`. Default: `port`. Tunnels that are open at the same time need" +
				" different ports.",
		},
	}
}

func secretArguments() map[string]schema.Attribute {
	apiKey := secret("Key that clients must present. When omitted, the provider generates one and stores it in state.", "api_key_wo")
	apiKey.Computed = true
	return map[string]schema.Attribute{
		"api_key": apiKey,
		"api_key_wo": writeOnly("The same, but never stored in state or plan. Requires Terraform or OpenTofu 1.11 or later.",
			"api_key_wo_version"),
		"api_key_wo_version":  version("api_key_wo"),
		"hf_token":            secret("Hugging Face token, for models that need one.", "hf_token_wo"),
		"hf_token_wo":         writeOnly("The same, but never stored in state or plan.", "hf_token_wo_version"),
		"hf_token_wo_version": version("hf_token_wo"),
	}
}

func results() map[string]schema.Attribute {
	text := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: description}
	}
	number := func(description string) schema.Int64Attribute {
		return schema.Int64Attribute{Computed: true, MarkdownDescription: description}
	}
	return map[string]schema.Attribute{
		"id": text("The container's ID, or the process's ID and start time."),
		"server": schema.SingleNestedAttribute{
			Computed:            true,
			MarkdownDescription: "Identifies the server on its machine, for `shopper_vllm_health` and `shopper_vllm_logs`.",
			Attributes: map[string]schema.Attribute{
				"runtime":   text("Its runtime: `container` or `process`."),
				"id":        text("The container's ID, or the process's ID and start time."),
				"name":      text("Its name."),
				"owner":     text("The deployment that it belongs to, from a label on the machine."),
				"port":      number("Its port."),
				"listen":    text("Its address on the machine."),
				"directory": text("Directory of its files; null for a container."),
			},
		},
		"base_url": text("Base URL of the OpenAI API. For a private server it is valid on the machine, and through `tunnel_command` on" +
			" your computer at `local_port` (`http://127.0.0.1:8000/v1`); for a public one, everywhere."),
		"ca_certificate": text("Certificate for clients to trust, in PEM form: the CA of the generated certificate, or the configured" +
			" certificate. Null without `tls`."),
		"host_key": text("The machine's host key, as configured or as seen at first contact. A machine that presents a different one is" +
			" refused; set `ssh.host_key` to accept a new key."),
		"bastion_host_key": text("The jump host's host key, likewise; set `ssh.bastion.host_key` to accept a new one. Null without" +
			" `ssh.bastion`."),
		"tunnel_command": text("Command that forwards the server's port to your computer, through the jump host if there is one. It" +
			" accepts only the host key in `ssh`. Append `-i FILE` unless the machine's private key is in your SSH agent or" +
			" configuration."),
		"image_digest":         text("Digest of the running image."),
		"vllm_version":         text("vLLM version, as the server reports it."),
		"served_max_model_len": number("Maximum context length that is served, in tokens."),
		"gpus": schema.ListNestedAttribute{
			Computed:            true,
			MarkdownDescription: "The machine's GPUs.",
			NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
				"index":              number("Index."),
				"uuid":               text("UUID."),
				"name":               text("Name."),
				"memory_mib":         number("Memory in MiB."),
				"driver_version":     text("Version of the NVIDIA driver."),
				"compute_capability": text("Compute capability, such as `8.9`."),
			}},
		},
		"status": text("`running`, or the server's actual state. The next apply restarts a server that isn't running, unless the" +
			" status is `unknown`."),
		"started_at": text("When the server was started (RFC 3339, UTC)."),
		"load_seconds": schema.Float64Attribute{Computed: true, MarkdownDescription: "Seconds from the server's start to its first" +
			" completion."},
	}
}

var containerNamePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// smallestShmSize refuses a bare number, which would mean bytes instead of GiB.
const smallestShmSize = 1 << 20

func checkShmSize(s string) error {
	bytes, err := units.RAMInBytes(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a size: write 16g or 512m", s)
	case bytes < smallestShmSize:
		return fmt.Errorf("%s is %d bytes: write 16g or 512m", s, bytes)
	}
	return nil
}

func checkContainerName(s string) error {
	if !containerNamePattern.MatchString(s) {
		return errors.New("a container's name is up to 128 letters, digits, dots, underscores and hyphens, beginning with a letter or digit")
	}
	return nil
}

// checkImage says what is wrong with an image reference.
func checkImage(s string) error {
	err := vllm.ValidateImage(s)
	if spec, ok := errors.AsType[*vllm.SpecError](err); ok && len(spec.Problems) > 0 {
		return errors.New(spec.Problems[0].Problem)
	}
	return err
}
