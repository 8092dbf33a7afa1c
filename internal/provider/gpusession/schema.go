package gpusession

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/float64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/identityschema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/float64planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/objectplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/effect"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const (
	conflictError   = "error"
	conflictReplace = "replace"
)

// Schema describes the resource.
func (r *Resource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	attributes := computed()
	for name, attribute := range arguments(ctx) {
		attributes[name] = attribute
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "A rented GPU machine. Creating it rents the cheapest offer that meets the requirements, and waits until" +
			" SSH login works. Destroying it releases the machine and waits until the shopper confirms that. The shopper ends every" +
			" machine when its reservation ends, and no later than its own limit: twelve hours after the rental, unless its" +
			" operator has set another." + Effects().Markdown(),
		Attributes: attributes,
	}
}

// Effects says what a change of each argument does.
func Effects() effect.Table {
	return effect.Table{
		Arguments: map[effect.Effect][]string{
			effect.InPlace: {
				"requirements", "max_attempts", "reservation_hours", "ssh_timeout", "on_conflict", "authorized_keys", "retain_private_key",
				"timeouts",
			},
			effect.Replaces: {"name", "name_prefix", "offer_id", "workload_type", "disk_gb", "template_hash_id", "on_start_cmd"},
		},
		Notes: []string{
			"`requirements` that the rented machine doesn't meet replace it. Raising `reservation_hours` above what is reserved extends" +
				" the reservation; lowering it changes nothing.",
		},
	}
}

func arguments(ctx context.Context) map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"name": schema.StringAttribute{
			Optional: true, Computed: true,
			PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			Validators:    []validator.String{validate.String("must be a name without a slash", rental.ValidateName)},
			MarkdownDescription: "Name of the rental, unique among the sessions of the provider's `consumer_id`. It finds the machine" +
				" again after a crash. Changing it replaces the machine. Set either this or `name_prefix`.",
		},
		"name_prefix": schema.StringAttribute{
			Optional:   true,
			Validators: []validator.String{validate.String("must be the beginning of a name without a slash", rental.ValidatePrefix)},
			MarkdownDescription: "Beginning of the name. Every new machine adds a unique suffix, because two machines exist for a while" +
				" with `create_before_destroy`. The prefix, too, finds a machine again after a crash. Changing it replaces the machine," +
				" unless the machine's name still begins with it.",
		},
		"offer_id": schema.StringAttribute{
			Optional: true, Computed: true,
			PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			Validators:    []validator.String{validate.String("must be an offer's ID", shopper.ValidateID)},
			MarkdownDescription: "Rent this offer and no other. Set either this or `requirements`. With `requirements` it is the offer" +
				" that was rented.",
		},
		"requirements": requirementsAttribute(),
		"max_attempts": schema.Int64Attribute{
			Optional: true, Computed: true, Default: int64default.StaticInt64(rental.DefaultAttempts),
			Validators: []validator.Int64{int64validator.Between(1, 20)},
			MarkdownDescription: "How many offers are tried before giving up. The next one is tried when an offer is gone, fails, or" +
				" its machine refuses the login. Default `3`.",
		},
		"reservation_hours": schema.Int64Attribute{
			Optional: true, Validators: []validator.Int64{int64validator.Between(1, maxHours)},
			MarkdownDescription: "Minimum reservation, in hours from the rental's start to its end. Default for a new machine: 1 hour." +
				" A rental starts with at most 12 hours; the shopper decides whether it can be extended beyond that. Raising it above" +
				" `reserved_hours` extends the reservation in place. Lowering it changes nothing: a reservation can't be shortened.",
		},
		"workload_type": schema.StringAttribute{
			Optional: true, Computed: true, Default: stringdefault.StaticString(string(shopper.WorkloadLLMVLLM)),
			Validators: []validator.String{stringvalidator.OneOf(workloadTypes()...)},
			MarkdownDescription: "What the machine is for. `llm_vllm` leaves the machine as it is; with `llm` the shopper installs" +
				" Ollama on it. Default `llm_vllm`.",
		},
		"disk_gb": schema.Int64Attribute{
			Optional:            true,
			Validators:          []validator.Int64{int64validator.Between(1, 16384)},
			MarkdownDescription: "Disk size to request, in GB. Only Vast.ai honors it (its default is 50).",
		},
		"template_hash_id": schema.StringAttribute{
			Optional:            true,
			Validators:          []validator.String{validate.String("must be a template's hash ID", shopper.ValidateID)},
			MarkdownDescription: "Template to start the machine from (Vast.ai only).",
		},
		"on_start_cmd": schema.StringAttribute{
			Optional:   true,
			Validators: []validator.String{validate.NotEmpty()},
			MarkdownDescription: "Command that the machine runs when it starts (Vast.ai and TensorDock only). The shopper stores it, so" +
				" don't put secrets in it.",
		},
		"ssh_timeout": schema.StringAttribute{
			Optional: true, Validators: []validator.String{validate.Duration(time.Minute, 30*time.Minute, time.Minute)},
			MarkdownDescription: "How long the shopper waits for the machine's SSH server before it gives up on the machine, in whole" +
				" minutes up to `30m`. Used only when renting. Default: set by the shopper.",
		},
		"on_conflict": schema.StringAttribute{
			Optional: true, Computed: true, Default: stringdefault.StaticString(conflictError),
			Validators: []validator.String{stringvalidator.OneOf(conflictError, conflictReplace)},
			MarkdownDescription: "What to do before renting if an active session of this name is neither in state nor a leftover in the" +
				" journal: `error` stops and names the session, `replace` releases it first. `replace` can't be combined with" +
				" `name_prefix`, because other machines with that prefix may be in use. Default `error`.",
		},
		"authorized_keys": schema.SetAttribute{
			Optional: true, ElementType: types.StringType,
			Validators: []validator.Set{
				setvalidator.SizeBetween(1, 50),
				setvalidator.ValueStringsAre(validate.String("must be a public key", checkPublicKey)),
			},
			MarkdownDescription: "Your public keys to install on the machine, in `authorized_keys` format.",
		},
		"retain_private_key": schema.BoolAttribute{
			Optional: true, Computed: true, Default: booldefault.StaticBool(true),
			MarkdownDescription: "Whether the machine's one-time key is kept in state. `false` requires `authorized_keys`: the key is" +
				" removed from the machine and from state once a login with the provider's `ssh` credentials has worked. Deployments" +
				" and data sources use those credentials from then on. Default `true`.",
		},
		"timeouts": validate.Timeouts(timeouts.Attributes(ctx, timeouts.Opts{
			Create: true, Read: true, Update: true, Delete: true,
			CreateDescription: "From renting until SSH login works. Default `45m`.",
			ReadDescription:   "Default `5m`.",
			UpdateDescription: "Extending the reservation. Default `10m`.",
			DeleteDescription: "From the release request until the release is confirmed. Default `20m`: a single attempt of the shopper" +
				" takes up to five.",
		})),
	}
}

func requirementsAttribute() schema.SingleNestedAttribute {
	strings := func(text string, of validator.String) schema.SetAttribute {
		return schema.SetAttribute{
			Optional: true, ElementType: types.StringType, MarkdownDescription: text,
			Validators: []validator.Set{setvalidator.SizeAtLeast(1), setvalidator.ValueStringsAre(of)},
		}
	}
	return schema.SingleNestedAttribute{
		Optional: true,
		MarkdownDescription: "What the machine must provide. The cheapest matching offer is rented; of equal prices, the more reliable" +
			" one. A change that the rented machine still meets is an update in place; any other replaces the machine. Price changes" +
			" and new offers never do. Terraform silently ignores misspelled names in this object: check the plan.",
		Attributes: map[string]schema.Attribute{
			"gpu_types": strings("GPU types to choose from, such as `RTX 4090`. Case doesn't matter.", validate.NotEmpty()),
			"gpu_count": schema.Int64Attribute{
				Optional: true, Validators: []validator.Int64{int64validator.Between(1, 64)},
				MarkdownDescription: "Exact number of GPUs. TensorDock provides one, whatever its offers say.",
			},
			"min_vram_gb": schema.Int64Attribute{
				Optional: true, Validators: []validator.Int64{int64validator.Between(1, 1024)},
				MarkdownDescription: "Minimum memory of each GPU, in GB. The shopper truncates fractions, so one GB less is accepted.",
			},
			"max_price_per_hour": schema.Float64Attribute{
				Optional: true, Validators: []validator.Float64{float64validator.AtLeast(0.0001)},
				MarkdownDescription: "Ceiling in USD per hour for the whole machine. The price that is actually charged is checked as" +
					" well.",
			},
			"clouds": strings("Clouds to choose from: `vastai`, `tensordock`, `bluelobster`.", validate.Cloud()),
			"locations": strings("Parts of a location's name to choose from, such as `US` or `Germany`."+
				" Case doesn't matter.", validate.NotEmpty()),
			"min_reliability": schema.Float64Attribute{
				Optional: true, Validators: []validator.Float64{float64validator.Between(0, 1)},
				MarkdownDescription: "Minimum reliability, from 0 to 1. Blue Lobster reports none, so this excludes it.",
			},
			"min_cuda_version": schema.Float64Attribute{
				Optional: true, Validators: []validator.Float64{float64validator.Between(0, 100)},
				MarkdownDescription: "Minimum CUDA version that the driver supports, such as `12.8`. Only Vast.ai reports one, so this" +
					" excludes all other clouds.",
			},
			"exclude_offers": strings("IDs of offers to exclude.", validate.NotEmpty()),
			"allow_interruptible": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Include interruptible (spot) offers, which the cloud may reclaim at any time. Default `false`.",
			},
		},
	}
}

func computed() map[string]schema.Attribute {
	text := func(description string) schema.StringAttribute {
		return schema.StringAttribute{
			Computed: true, MarkdownDescription: description,
			PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
		}
	}
	number := func(description string) schema.Int64Attribute {
		return schema.Int64Attribute{
			Computed: true, MarkdownDescription: description,
			PlanModifiers: []planmodifier.Int64{int64planmodifier.UseStateForUnknown()},
		}
	}
	ssh := sshattr.Computed("How to log in to the machine.")
	ssh.PlanModifiers = []planmodifier.Object{objectplanmodifier.UseStateForUnknown()}
	return map[string]schema.Attribute{
		"id":        text("The session's ID."),
		"status":    text("Status as the shopper reports it, such as `running`."),
		"cloud":     text("The cloud that the machine is rented from."),
		"gpu_type":  text("Type of the GPUs."),
		"gpu_count": number("Number of GPUs."),
		"vram_gb":   number("Memory of each GPU in GB, from the offer. Null after an import."),
		"location":  text("Where the machine is, from the offer. Null after an import."),
		"price_per_hour": schema.Float64Attribute{
			Computed: true, MarkdownDescription: "The price that is actually charged, in USD per hour. The shopper reports it only in" +
				" its answer to the rental; later it reports the offer's price.",
			PlanModifiers: []planmodifier.Float64{float64planmodifier.UseStateForUnknown()},
		},
		"mark":        text("The rental's `consumer_id` at the shopper: the provider's `consumer_id`, the name, and a unique token."),
		"shopper_url": text("Address of the shopper that rented the machine. Only its answers count as proof that the machine is gone."),
		"created_at":  text("When the machine was rented (RFC 3339, UTC)."),
		"expires_at": schema.StringAttribute{
			Computed:            true,
			MarkdownDescription: "When the reservation ends and the shopper ends the machine (RFC 3339, UTC).",
			PlanModifiers:       []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
		},
		"reserved_hours": number("Hours from the rental's start to its actual end, including extensions made elsewhere."),
		"ssh":            ssh,
	}
}

func workloadTypes() []string {
	var words []string
	for _, word := range shopper.WorkloadTypes() {
		words = append(words, string(word))
	}
	return words
}

// IdentitySchema describes what identifies a session.
func (r *Resource) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	resp.IdentitySchema = identityschema.Schema{
		Attributes: map[string]identityschema.Attribute{
			"id": identityschema.StringAttribute{RequiredForImport: true, Description: "The session's ID."},
		},
	}
}
