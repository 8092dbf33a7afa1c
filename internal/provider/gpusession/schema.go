package gpusession

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/float64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/resourcevalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/path"
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
			" the machine can be logged in to; destroying it gives the machine back and waits for the proof. The shopper ends every" +
			" machine at the end of its reservation, and at the latest when its own limit is reached (twelve hours after it was rented," +
			" unless its operator has set another)." + Effects().Markdown(),
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
			"`requirements` that the rented machine doesn't meet replace it. More `reservation_hours` than are reserved extend the" +
				" reservation; fewer change nothing.",
		},
	}
}

func arguments(ctx context.Context) map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"name": schema.StringAttribute{
			Optional: true, Computed: true,
			PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			Validators:    []validator.String{validate.String("must be a name without a slash", rental.ValidateName)},
			MarkdownDescription: "Name of the rental, unique among the sessions of the provider's `consumer_id`: by it a machine" +
				" is found again after a crash. Changing it replaces the machine. Either this or `name_prefix`.",
		},
		"name_prefix": schema.StringAttribute{
			Optional:   true,
			Validators: []validator.String{validate.String("must be the beginning of a name without a slash", rental.ValidatePrefix)},
			MarkdownDescription: "Beginning of the name, to which every new machine adds a unique end: with `create_before_destroy` two" +
				" machines exist for a while. By it, too, a machine is found again after a crash. Changing it replaces the machine, unless" +
				" the machine's name fits.",
		},
		"offer_id": schema.StringAttribute{
			Optional: true, Computed: true,
			PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			Validators:    []validator.String{validate.String("must be an offer's id", shopper.ValidateID)},
			MarkdownDescription: "Rent this offer and no other. Either this or `requirements`. As a result it is the offer that was" +
				" rented.",
		},
		"requirements": requirementsAttribute(),
		"max_attempts": schema.Int64Attribute{
			Optional: true, Computed: true, Default: int64default.StaticInt64(rental.DefaultAttempts),
			Validators:          []validator.Int64{int64validator.Between(1, 20)},
			MarkdownDescription: "How many offers are tried before giving up, where one is gone, fails, or can't be logged in to.",
		},
		"reservation_hours": schema.Int64Attribute{
			Optional: true, Validators: []validator.Int64{int64validator.Between(1, maxHours)},
			MarkdownDescription: "The least that is requested: hours from the rental's start to its end. Without it a new machine is" +
				" reserved for 1 hour; at most 12 are possible when it is rented, and whether more are later is the shopper's to say. Raising it above `reserved_hours` extends the reservation in place. A longer reservation meets it," +
				" and is not shortened: lowering it changes nothing on the machine.",
		},
		"workload_type": schema.StringAttribute{
			Optional: true, Computed: true, Default: stringdefault.StaticString(string(shopper.WorkloadLLMVLLM)),
			Validators: []validator.String{stringvalidator.OneOf(workloadTypes()...)},
			MarkdownDescription: "What the machine is for: `llm_vllm` leaves the machine as it" +
				" is; `llm` makes the shopper install Ollama on it.",
		},
		"disk_gb": schema.Int64Attribute{
			Optional:            true,
			Validators:          []validator.Int64{int64validator.Between(1, 16384)},
			MarkdownDescription: "Disk to ask for, in GB. Only Vast.ai honors it (default there 50).",
		},
		"template_hash_id": schema.StringAttribute{
			Optional:            true,
			Validators:          []validator.String{validate.String("must be a template's hash id", shopper.ValidateID)},
			MarkdownDescription: "Template to start the machine from (Vast.ai only).",
		},
		"on_start_cmd": schema.StringAttribute{
			Optional:   true,
			Validators: []validator.String{validate.NotEmpty()},
			MarkdownDescription: "Command that the machine runs when it starts (Vast.ai and TensorDock). The shopper stores it: put no" +
				" secret in it.",
		},
		"ssh_timeout": schema.StringAttribute{
			Optional: true, Validators: []validator.String{validate.Duration(time.Minute, 30*time.Minute, time.Minute)},
			MarkdownDescription: "How long the shopper waits for the machine's SSH server before it gives the machine up, in whole minutes" +
				" up to `30m`. Used when renting only. Default: the shopper's own.",
		},
		"on_conflict": schema.StringAttribute{
			Optional: true, Computed: true, Default: stringdefault.StaticString(conflictError),
			Validators: []validator.String{stringvalidator.OneOf(conflictError, conflictReplace)},
			MarkdownDescription: "What creating does with an active session of this name that is not in state and not provably a leftover" +
				" of this configuration: `error` stops and names it, `replace` releases it first. Not with `name_prefix`, whose other" +
				" machines may be in use.",
		},
		"authorized_keys": schema.SetAttribute{
			Optional: true, ElementType: types.StringType,
			Validators: []validator.Set{
				setvalidator.SizeBetween(1, 50),
				setvalidator.ValueStringsAre(validate.String("must be a public key", checkPublicKey)),
			},
			MarkdownDescription: "Public keys of yours to install on the machine, in the form of `authorized_keys`. A change is made in" +
				" place.",
		},
		"retain_private_key": schema.BoolAttribute{
			Optional: true, Computed: true, Default: booldefault.StaticBool(true),
			MarkdownDescription: "Whether the machine's one-time key is kept in state. With false, which needs `authorized_keys`, it is removed from the" +
				" machine and from state once a login with the provider's `ssh` credentials has worked; deployments and data sources use" +
				" those from then on.",
		},
		"timeouts": validate.Timeouts(timeouts.Attributes(ctx, timeouts.Opts{
			Create: true, Read: true, Update: true, Delete: true,
			CreateDescription: "Renting, until the machine can be logged in to. Default `45m`.",
			ReadDescription:   "Default `5m`.",
			UpdateDescription: "Extending the reservation. Default `10m`.",
			DeleteDescription: "Releasing, until the proof. Default `20m`: one request of the shopper's own takes up to five.",
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
		MarkdownDescription: "What the machine must be. The cheapest offer that fits is rented; between equal prices the more reliable" +
			" one. A change that the rented machine still meets is an update in place, any other replaces it; prices and offers that" +
			" move never do. Terraform ignores a misspelt name in here without a word: the plan shows what will be asked for.",
		Attributes: map[string]schema.Attribute{
			"gpu_types": strings("GPU types to choose from, such as `RTX 4090`. Case doesn't matter.", validate.NotEmpty()),
			"gpu_count": schema.Int64Attribute{
				Optional: true, Validators: []validator.Int64{int64validator.Between(1, 64)},
				MarkdownDescription: "Exactly how many GPUs. TensorDock gives one, whatever its offers say.",
			},
			"min_vram_gb": schema.Int64Attribute{
				Optional: true, Validators: []validator.Int64{int64validator.Between(1, 1024)},
				MarkdownDescription: "Memory of each GPU in GB, at least. The shopper cuts off fractions, so one GB less is let through.",
			},
			"max_price_per_hour": schema.Float64Attribute{
				Optional: true, Validators: []validator.Float64{float64validator.AtLeast(0.0001)},
				MarkdownDescription: "Ceiling in USD per hour for the whole machine. The price really paid is compared with it too.",
			},
			"clouds": strings("Clouds to choose from: `vastai`, `tensordock`, `bluelobster`.", validate.Cloud()),
			"locations": strings("Parts of a location's name to choose from, such as `US` or `Germany`."+
				" Case doesn't matter.", validate.NotEmpty()),
			"min_reliability": schema.Float64Attribute{
				Optional: true, Validators: []validator.Float64{float64validator.Between(0, 1)},
				MarkdownDescription: "Reliability from 0 to 1, at least. Blue Lobster reports none, so this excludes it.",
			},
			"min_cuda_version": schema.Float64Attribute{
				Optional: true, Validators: []validator.Float64{float64validator.Between(0, 100)},
				MarkdownDescription: "CUDA version that the driver supports, at least, such as `12.8`. Only Vast.ai reports one, so this" +
					" excludes all others.",
			},
			"exclude_offers": strings("Ids of offers never to rent.", validate.NotEmpty()),
			"allow_interruptible": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Include interruptible (spot) offers, which the cloud may take back at any time.",
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
		"id":        text("The session's id."),
		"status":    text("`running`, or the shopper's word for what it is instead."),
		"cloud":     text("The cloud that the machine is rented from."),
		"gpu_type":  text("Type of the GPUs."),
		"gpu_count": number("How many GPUs."),
		"vram_gb":   number("Memory of each GPU in GB, as the offer said. Null after an import."),
		"location":  text("Where the machine is, as the offer said. Null after an import."),
		"price_per_hour": schema.Float64Attribute{
			Computed: true, MarkdownDescription: "What is really paid, in USD per hour: what the shopper answered when it rented the machine. Later it tells the offer's price" +
				" alone.",
			PlanModifiers: []planmodifier.Float64{float64planmodifier.UseStateForUnknown()},
		},
		"mark": text("What the rental carries as `consumer_id` at the shopper: the provider's `consumer_id`, the name, and a token that" +
			" no other rental has."),
		"shopper_url": text("Address of the shopper that rented the machine. No other one's answer proves that it is gone."),
		"created_at":  text("When the machine was rented (RFC 3339, UTC)."),
		"expires_at": schema.StringAttribute{
			Computed:            true,
			MarkdownDescription: "When the reservation ends and the shopper ends the machine (RFC 3339, UTC).",
			PlanModifiers:       []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
		},
		"reserved_hours": number("Hours from the rental's start to its end that are really reserved, extensions by others included."),
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

// ConfigValidators refuse configurations whose attributes don't go together.
func (r *Resource) ConfigValidators(context.Context) []resource.ConfigValidator {
	return []resource.ConfigValidator{
		resourcevalidator.ExactlyOneOf(path.MatchRoot("name"), path.MatchRoot("name_prefix")),
		resourcevalidator.ExactlyOneOf(path.MatchRoot("offer_id"), path.MatchRoot("requirements")),
	}
}

// IdentitySchema describes what identifies a session.
func (r *Resource) IdentitySchema(_ context.Context, _ resource.IdentitySchemaRequest, resp *resource.IdentitySchemaResponse) {
	resp.IdentitySchema = identityschema.Schema{
		Attributes: map[string]identityschema.Attribute{
			"id": identityschema.StringAttribute{RequiredForImport: true, Description: "The session's id."},
		},
	}
}
