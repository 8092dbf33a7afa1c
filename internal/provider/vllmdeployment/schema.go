package vllmdeployment

import (
	"context"
	"errors"
	"fmt"
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
		for name, attribute := range group {
			attributes[name] = attribute
		}
	}
	return schema.Schema{
		MarkdownDescription: "A vLLM server on a machine that SSH reaches, rented or not. Creating it succeeds only after the model has" +
			" given a real completion; when it fails, the error says why, with the server's own words, and nothing is left on the" +
			" machine. Unless told otherwise the server listens on the machine's loopback only and is reached through SSH." +
			Effects().Markdown() +
			"\nA deployment is imported from its machine, which keeps its arguments with the server, but no secret and no `ssh`. Login is" +
			" with the provider's `ssh` credentials. The plan after the import changes `ssh` where the configuration gives keys, and sets" +
			" `api_key` and `hf_token`; the server is started again only for a key that it doesn't have. A key that the provider made is" +
			" read back from the server. `vllm_version`, `served_max_model_len` and `load_seconds` are null until the next start.\n",
		Attributes: attributes,
	}
}

// Effects says what a change of each argument does.
func Effects() effect.Table {
	return effect.Table{
		Arguments: map[effect.Effect][]string{
			effect.InPlace: {"ssh", "min_vram_gib", "preflight", "ready", "on_failure", "drain_timeout", "timeouts"},
			effect.Restarts: {
				"model", "served_model_name", "revision", "quantization", "dtype", "max_model_len", "gpu_memory_utilization",
				"tensor_parallel_size", "pipeline_parallel_size", "trust_remote_code", "kv_cache_dtype", "enable_prefix_caching",
				"tool_call_parser", "reasoning_parser", "lora_adapters", "args", "env", "port", "api_key", "api_key_wo_version", "hf_token",
				"hf_token_wo_version", "runtime", "container", "process", "exposure", "tls",
			},
			effect.Replaces: {"session_id"},
		},
		Notes: []string{
			"Without a `session_id`, another `host` or `port` in `ssh` is another machine and replaces the deployment. `pull_policy`," +
				" `registry_auth` and `install_engine` of `container` and `install` of `process` are changed in place, and so are `process.version` where the" +
				" server runs that release already and `runtime` where it is run so already. Write-only arguments are used when their" +
				" `_version` changes. `lora_adapters` are loaded and unloaded in place where nothing else takes a restart, the server" +
				" has LoRA on already, and `env` sets `" + vllm.EnvRuntimeLoRA + "`.",
		},
	}
}

func placeArguments(ctx context.Context) map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"session_id": schema.StringAttribute{
			Optional:      true,
			PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
			Validators:    []validator.String{validate.NotEmpty()},
			MarkdownDescription: "Id of the `shopper_gpu_session` that the machine is rented with. A replaced session replaces the" +
				" deployment, and an ended one is known to have taken the server with it.",
		},
		"ssh": sshattr.Argument(),
		"runtime": schema.StringAttribute{
			Optional: true, Computed: true, Default: stringdefault.StaticString(string(deploy.Auto)),
			Validators: []validator.String{stringvalidator.OneOf(string(deploy.Container), string(deploy.Process), string(deploy.Auto))},
			MarkdownDescription: "How the server is run: `container`, through the machine's Docker or Podman; `process`, for machines without" +
				" (Vast.ai's are containers themselves); or `auto`, which takes the one that is described below, of both the" +
				" first that works on the machine, and `process` without either. `server.runtime` says which was taken.",
		},
		"container": containerAttribute(),
		"process":   processAttribute(),
		"exposure": schema.StringAttribute{
			Optional: true, Computed: true, Default: stringdefault.StaticString(private),
			Validators: []validator.String{stringvalidator.OneOf(private, public)},
			MarkdownDescription: "`private`: the server listens on the machine's loopback and is reached through SSH. `public`: it" +
				" listens on all addresses, and is ready when it has answered at the machine's own. A container's port is published" +
				" there by its engine, and `localhost` in it is the container itself; a process of a vLLM before 0.28.0 has one more" +
				" port open, on all addresses. vLLM asks for the key below `/v1`" +
				" (newer releases: also `/v2`, `/inference` and `/cohere`) only; the plan warns which routes of the release stay open. Of" +
				" machines of Vast.ai only SSH is reachable.",
		},
		"tls":       tlsAttribute(),
		"preflight": preflightAttribute(),
		"ready":     readyAttribute(),
		"on_failure": schema.StringAttribute{
			Optional: true, Computed: true, Default: stringdefault.StaticString(string(lifecycle.Rollback)),
			Validators: []validator.String{stringvalidator.OneOf(string(lifecycle.Rollback), string(lifecycle.Keep))},
			MarkdownDescription: "What happens to a server that fails: `rollback` removes it, and on an update starts the old" +
				" one again; `keep` leaves it for debugging, and the error says how to reach it.",
		},
		"drain_timeout": schema.StringAttribute{
			Optional: true, Validators: []validator.String{validate.Duration(0, 0, time.Second)},
			MarkdownDescription: "How long requests that run may go on when an update or a destroy stops the server, such as `2m`. Default" +
				" `30s`; `0s` cuts them. New requests are refused meanwhile, and a server without requests stops at once. A change" +
				" restarts nothing: a longer time counts from the server's next start. It needs a release of vLLM that has" +
				" `--shutdown-timeout` (0.19.1 and 0.32.0 do); where the image's tag names no release, only a `drain_timeout` that is" +
				" set is passed on. Requests that were cut are a warning.",
		},
		"timeouts": validate.Timeouts(timeouts.Attributes(ctx, timeouts.Opts{
			Create: true, Read: true, Update: true, Delete: true,
			CreateDescription: "From the first login to the first completion, the image's pull and the model's download included." +
				" Default `60m`.",
			ReadDescription:   "Default `2m`.",
			UpdateDescription: "Default `60m`, and `drain_timeout` besides.",
			DeleteDescription: "Default `10m`, and `drain_timeout` besides.",
		})),
	}
}

func readyAttribute() schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		Optional:            true,
		MarkdownDescription: "When the server counts as ready.",
		Attributes: map[string]schema.Attribute{
			"completion": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(true),
				MarkdownDescription: "Prove the model with a completion; false for models that don't complete (embedding," +
					" reward), which are proved by the fitting call instead.",
			},
			"timeout": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.Duration(time.Second, 0, 1)},
				MarkdownDescription: "How long the server may take from its start to its first answer, the model's download included, such as" +
					" `20m`. Default: a share of `timeouts`.",
			},
		},
	}
}

func processAttribute() schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "How vLLM is found or installed where it is run as a process. It is started in a separate session and" +
			" supervised: once it has answered, it is started again when it dies.",
		Attributes: map[string]schema.Attribute{
			"version": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.NotEmpty()},
				MarkdownDescription: "vLLM's release, such as `0.33.0`. Default: what the machine has, else the newest that the machine's" +
					" driver and GPUs run; `vllm_version` says which. An older release is installed with the packages of its day.",
			},
			"install": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("missing"),
				Validators: []validator.String{stringvalidator.OneOf("missing", "never")},
				MarkdownDescription: "`missing` installs that release with uv, into a separate directory, unless the machine has it;" +
					" `never` makes that an error.",
			},
			"directory": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.NotEmpty()},
				MarkdownDescription: "Absolute path on the machine for installations and logs. Default `.shopper-vllm` in the user's home.",
			},
		},
	}
}

func tlsAttribute() schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "Serve HTTPS. With `{}` the provider makes a certificate for the machine's address, valid for a year and" +
			" renewed by an apply in its last month; its private key is on the machine only. `ca_certificate` is what clients trust.",
		Attributes: map[string]schema.Attribute{
			"certificate": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.String("must be a certificate in PEM form", checkCertificate)},
				MarkdownDescription: "A certificate of your own in PEM form, followed by those that sign it.",
			},
			"private_key": schema.StringAttribute{
				Optional: true, Sensitive: true,
				Validators: []validator.String{
					validate.NotEmpty(), stringvalidator.ConflictsWith(path.MatchRelative().AtParent().AtName("private_key_wo")),
				},
				MarkdownDescription: "Its private key in PEM form. Kept in state; `private_key_wo` isn't.",
			},
			"private_key_wo": schema.StringAttribute{
				Optional: true, Sensitive: true, WriteOnly: true,
				Validators: []validator.String{
					validate.NotEmpty(), stringvalidator.AlsoRequires(path.MatchRelative().AtParent().AtName("private_key_wo_version")),
				},
				MarkdownDescription: "The same, kept out of state and plan (Terraform and OpenTofu 1.11 or later).",
			},
			"private_key_wo_version": schema.Int64Attribute{
				Optional: true,
				Validators: []validator.Int64{
					int64validator.AlsoRequires(path.MatchRelative().AtParent().AtName("private_key_wo")),
				},
				MarkdownDescription: "Version of `private_key_wo`; change it to have a changed value used.",
			},
		},
	}
}

func containerAttribute() schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		Optional:            true,
		MarkdownDescription: "How the container is run. Required for `runtime = \"container\"`.",
		Attributes: map[string]schema.Attribute{
			"image": schema.StringAttribute{
				Required: true, Validators: []validator.String{validate.String("must name a tag or a digest", checkImage)},
				MarkdownDescription: "vLLM's image, pinned to a tag or a digest, such as `vllm/vllm-openai:v0.33.0`.",
			},
			"name": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.String("must be a container name", checkContainerName)},
				MarkdownDescription: "The container's name. Default `vllm-PORT`.",
			},
			"gpus": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("all"),
				Validators:          []validator.String{validate.NotEmpty()},
				MarkdownDescription: "`all`, `none`, a count, or a list of indices or UUIDs separated by commas.",
			},
			"shm_size": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("16g"),
				Validators:          []validator.String{validate.String("must be a size", checkShmSize)},
				MarkdownDescription: "Limit of the container's shared memory, such as `16g` or `512m`; counts in powers of 1024.",
			},
			"user": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.NotEmpty()},
				MarkdownDescription: "User, or user and group (`2000:0`), to run as. Default: the image's own.",
			},
			"cache": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.NotEmpty()},
				MarkdownDescription: "Prefix of the names of the volumes, or a directory on the machine, in which weights and compiled kernels" +
					" survive an update.",
			},
			"pull_policy": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("missing"),
				Validators:          []validator.String{stringvalidator.OneOf("missing", "always", "never")},
				MarkdownDescription: "When the image is pulled: `missing`, `always` or `never`.",
			},
			"install_engine": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Where the machine has no container engine, or one that gives containers no GPU, install Docker from" +
					" its distribution (Debian or Ubuntu) and NVIDIA's container toolkit from NVIDIA's packages, once, as root or with" +
					" sudo, within the create timeout. Default false. Machines that are containers themselves, such as Vast.ai's, can't have one.",
			},
			"registry_auth": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Credentials for the image's registry.",
				Attributes: map[string]schema.Attribute{
					"username": schema.StringAttribute{Optional: true, MarkdownDescription: "User name."},
					"password": schema.StringAttribute{Optional: true, Sensitive: true, MarkdownDescription: "Password or access token."},
					"identity_token": schema.StringAttribute{
						Optional: true, Sensitive: true, MarkdownDescription: "Identity token, instead of a user name and password.",
					},
				},
			},
		},
	}
}

func serverArguments() map[string]schema.Attribute {
	text := func(description string, more ...validator.String) schema.StringAttribute {
		return schema.StringAttribute{
			Optional: true, MarkdownDescription: description, Validators: append([]validator.String{validate.NotEmpty()}, more...),
		}
	}
	size := func(description string) schema.Int64Attribute {
		return schema.Int64Attribute{
			Optional: true, MarkdownDescription: description, Validators: []validator.Int64{int64validator.AtLeast(1)},
		}
	}
	return map[string]schema.Attribute{
		"model": schema.StringAttribute{
			Required:            true, // vllm.Spec judges it
			MarkdownDescription: "Hugging Face id of the model, such as `Qwen/Qwen2.5-7B-Instruct`, or a path on the machine.",
		},
		"served_model_name": text("Name that clients ask for. Default: the model's id."),
		"revision":          text("Branch, tag or commit of the model."),
		"quantization": text("Quantization method. Best left out: the checkpoint says it, and another value than its own" +
			" fails."),
		"dtype":         text("Number format of weights and activations.", stringvalidator.OneOf(vllm.DTypes()...)),
		"max_model_len": size("Longest context in tokens, prompt and answer together. Default: what the model allows."),
		"gpu_memory_utilization": schema.Float64Attribute{
			Optional: true, Computed: true,
			Default:             attrs.DefaultDecimal(strconv.FormatFloat(vllm.DefaultGPUMemoryUtilization, 'g', -1, 64)),
			Validators:          []validator.Float64{float64validator.Between(0.05, 1)},
			MarkdownDescription: "Share of each GPU's memory that vLLM takes.",
		},
		"min_vram_gib": schema.Float64Attribute{
			Optional: true, Validators: []validator.Float64{float64validator.AtLeast(0)},
			MarkdownDescription: "Memory in GiB that each GPU must have for this model, such as `per_gpu_gib` of the function `estimate_vram`: a" +
				" machine with less is an error before anything starts. It takes the place of the estimate that is made for well-known" +
				" models; 0 turns that off.",
		},
		"tensor_parallel_size": size("GPUs that share each layer. The model's attention heads must be divisible by it, and its heads" +
			" of keys and values too, or it by them. Default: the largest power of two that fits model and GPUs; a warning tells how" +
			" many GPUs stay idle. `CUDA_VISIBLE_DEVICES` in `env` says which are used."),
		"pipeline_parallel_size": size("GPUs that share the layers. Default 1."),
		"trust_remote_code": schema.BoolAttribute{
			Optional: true, Computed: true, Default: booldefault.StaticBool(false),
			MarkdownDescription: "Run Python code that comes with the model.",
		},
		"kv_cache_dtype": text("Number format of the key-value cache, such as `fp8`. Default: the model's. A release that probably doesn't" +
			" know it is a warning in the plan."),
		"enable_prefix_caching": schema.BoolAttribute{
			Optional: true, MarkdownDescription: "Share the cache of prompts that begin alike. Default: vLLM's own, which depends on the model.",
		},
		"tool_call_parser": text("Parser of the model's tool calls, such as `hermes`; turns on automatic tool choice. A release that" +
			" probably doesn't know it is a warning in the plan."),
		"reasoning_parser": text("Parser that tells the model's reasoning from its answer, such as `qwen3`. A release that probably" +
			" doesn't know it is a warning in the plan."),
		"lora_adapters": schema.MapAttribute{
			Optional: true, ElementType: types.StringType,
			MarkdownDescription: "LoRA adapters: the name that clients ask for, and a path on the machine or a Hugging Face id. `{}` turns" +
				" LoRA on without any, for adapters that are loaded later. With `" + vllm.EnvRuntimeLoRA + " = \"1\"` in `env`, a change loads" +
				" and unloads adapters through the server's own routes, without a restart; whoever has the API key can use those routes" +
				" too. Adapters that were loaded so are gone when the server is started again by itself, by hand or by" +
				" `shopper_restart_vllm`: the next plan shows it, and its apply loads them again.",
		},
		"args": schema.ListAttribute{
			Optional: true, ElementType: types.StringType,
			MarkdownDescription: "Further flags of `vllm serve`, one element for each word. Flags that have an attribute of their own, and" +
				" secrets, are refused in any spelling. A flag that the release (by the image's tag or `process.version`) probably doesn't" +
				" know is a warning in the plan, with the nearest spelling.",
		},
		"env": schema.MapAttribute{
			Optional: true, ElementType: types.StringType,
			MarkdownDescription: "Further environment variables. Put no secret here; `api_key` and `hf_token` have attributes of their" +
				" own.",
		},
		"port": schema.Int64Attribute{
			Optional: true, Computed: true, Default: int64default.StaticInt64(vllm.DefaultPort),
			Validators:          []validator.Int64{int64validator.Between(1, 65535)},
			MarkdownDescription: "Port that the server listens on.",
		},
	}
}

func secretArguments() map[string]schema.Attribute {
	secret := func(description, other string) schema.StringAttribute {
		return schema.StringAttribute{
			Optional: true, Sensitive: true, MarkdownDescription: description,
			Validators: []validator.String{validate.NotEmpty(), stringvalidator.ConflictsWith(path.MatchRoot(other))},
		}
	}
	writeOnly := func(description, version string) schema.StringAttribute {
		return schema.StringAttribute{
			Optional: true, Sensitive: true, WriteOnly: true, MarkdownDescription: description,
			Validators: []validator.String{validate.NotEmpty(), stringvalidator.AlsoRequires(path.MatchRoot(version))},
		}
	}
	version := func(of string) schema.Int64Attribute {
		return schema.Int64Attribute{
			Optional:            true,
			Validators:          []validator.Int64{int64validator.AlsoRequires(path.MatchRoot(of))},
			MarkdownDescription: "Version of `" + of + "`; change it to have a changed value used.",
		}
	}
	apiKey := secret("Key that clients must present. Made by the provider when left out, and kept in state.", "api_key_wo")
	apiKey.Computed = true
	return map[string]schema.Attribute{
		"api_key": apiKey,
		"api_key_wo": writeOnly("The same, kept out of state and plan (Terraform and OpenTofu 1.11 or later).",
			"api_key_wo_version"),
		"api_key_wo_version":  version("api_key_wo"),
		"hf_token":            secret("Hugging Face token, for models that need one.", "hf_token_wo"),
		"hf_token_wo":         writeOnly("The same, kept out of state and plan.", "hf_token_wo_version"),
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
		"id": text("The container's id, or a process's id and start time."),
		"server": schema.SingleNestedAttribute{
			Computed:            true,
			MarkdownDescription: "What the server is found by on its machine, for `shopper_vllm_health` and `shopper_vllm_logs`.",
			Attributes: map[string]schema.Attribute{
				"runtime":   text("How it is run."),
				"id":        text("The container's id, or a process's id and start time."),
				"name":      text("Its name."),
				"owner":     text("The deployment that it belongs to, as a label on the machine says."),
				"port":      number("Its port."),
				"listen":    text("Its address on the machine."),
				"directory": text("Where it keeps its files; null for a container."),
			},
		},
		"base_url": text("Base URL of the OpenAI API: of a private server as seen on the machine, and through `tunnel_command` on this" +
			" side (`http://127.0.0.1:8000/v1`); of a public one as seen from anywhere."),
		"ca_certificate": text("What clients trust in PEM form: the authority of the provider's certificate, or the certificate given. Null" +
			" without `tls`."),
		"host_key": text("The machine's host key as it was given or seen at first contact. A machine that presents another one is refused;" +
			" `ssh.host_key` accepts it."),
		"bastion_host_key": text("The jump host's host key, likewise; `ssh.bastion.host_key` accepts another one. Null without `ssh.bastion`."),
		"tunnel_command": text("Command that opens the server's port on your computer, through the jump host where there is one. It" +
			" accepts the host key in `ssh` and no other. Append `-i FILE` unless the machine's private key is in your SSH agent or" +
			" configuration."),
		"image_digest":         text("The image that really runs."),
		"vllm_version":         text("vLLM's version, as the server says."),
		"served_max_model_len": number("Longest context that is served, in tokens."),
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
		"status":       text("`running`, or what the server is instead; then the next apply starts it again, unless it is `unknown`."),
		"started_at":   text("When it was started (RFC 3339, UTC)."),
		"load_seconds": schema.Float64Attribute{Computed: true, MarkdownDescription: "Seconds from the start to the first completion."},
	}
}

var containerNamePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// smallestShmSize keeps a bare number, meant as GiB, from being taken as bytes.
const smallestShmSize = 1 << 20

func checkShmSize(s string) error {
	bytes, err := units.RAMInBytes(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not one: write 16g or 512m", s)
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
