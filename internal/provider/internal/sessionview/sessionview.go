// Package sessionview lists sessions of the shopper and describes them for data sources.
package sessionview

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"golang.org/x/sync/errgroup"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/result"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Model is one session.
type Model struct {
	ID            types.String  `tfsdk:"id"`
	Name          types.String  `tfsdk:"name"`
	Mark          types.String  `tfsdk:"mark"`
	Status        types.String  `tfsdk:"status"`
	Error         types.String  `tfsdk:"error"`
	Cloud         types.String  `tfsdk:"cloud"`
	GPUType       types.String  `tfsdk:"gpu_type"`
	GPUCount      types.Int64   `tfsdk:"gpu_count"`
	PricePerHour  types.Float64 `tfsdk:"price_per_hour"`
	ReservedHours types.Int64   `tfsdk:"reserved_hours"`
	CreatedAt     types.String  `tfsdk:"created_at"`
	ExpiresAt     types.String  `tfsdk:"expires_at"`
	HoursLeft     types.Float64 `tfsdk:"hours_left"`
	Cost          types.Float64 `tfsdk:"cost"`
	SSHAvailable  types.Bool    `tfsdk:"ssh_available"`
	SSH           *sshModel     `tfsdk:"ssh"`
}

// sshModel says where to log in to a machine.
type sshModel struct {
	Host types.String `tfsdk:"host"`
	Port types.Int64  `tfsdk:"port"`
	User types.String `tfsdk:"user"`
}

// Attributes describe a session.
func Attributes() map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"id":   result.Text("The session's ID."),
		"name": result.Text("The name in its mark. Null for a session that this provider didn't rent."),
		"mark": result.Text("Its `consumer_id` at the shopper: consumer, name and token if this provider rented it."),
		"status": result.Text("Status as the shopper reports it: `pending`, `provisioning`, `running`, `stopping`, `stopped` or" +
			" `failed`."),
		"error":     result.Text("Why it failed, as the shopper reports it."),
		"cloud":     result.Text("The cloud that the machine is rented from."),
		"gpu_type":  result.Text("Type of the GPUs."),
		"gpu_count": result.Number("Number of GPUs."),
		"price_per_hour": result.Decimal("Price from the offer, in USD per hour. The shopper reports the price that is actually charged" +
			" only in its answer to the rental."),
		"reserved_hours": result.Number("Hours from its start to its end, extensions included."),
		"created_at":     result.Text("When it was rented (RFC 3339, UTC)."),
		"expires_at":     result.Text("When its reservation ends (RFC 3339, UTC)."),
		"hours_left":     result.Decimal("Hours until the reservation ends; 0 for a session that has ended." + attrs.Moves),
		"cost":           result.Decimal("Cost so far in USD, by the shopper's accounting." + attrs.Moves),
		"ssh_available": result.Flag("Whether the machine's SSH server answers this computer within five seconds. Null unless the" +
			" session is running."),
		"ssh": result.Object("Where to log in. Null until the machine has an address. With the provider's `ssh` credentials it can be"+
			" the `ssh` of a deployment. `merge(data.shopper_gpu_session.NAME.ssh, { private_key = … })` adds a key.",
			map[string]schema.Attribute{
				"host": result.Text("Name or address of the machine."),
				"port": result.Number("Port of its SSH server."),
				"user": result.Text("User to log in as."),
			}),
	}
}

// Alive reports whether a session may have a machine.
func Alive(s shopper.Session) bool { return s.Status != shopper.Stopped && s.Status != shopper.Failed }

// Name is the name in a session's mark, "" for a session without one.
func Name(s shopper.Session) string {
	mark, _ := rental.ParseMark(s.ConsumerID)
	return mark.Name
}

// Ours reports whether the consumer rented the session.
func Ours(s shopper.Session, consumer string) bool {
	mark, ok := rental.ParseMark(s.ConsumerID)
	return ok && mark.Consumer == consumer || s.ConsumerID == consumer
}

const (
	// most bounds the parallel requests of one data source.
	most = 8
	// mostMachines bounds how many machines are checked in parallel.
	mostMachines = 64
	// sshPatience is how long a machine may take to answer.
	sshPatience = 5 * time.Second
)

// Show describes sessions, with what takes a request each: the cost, and whether the machine's SSH server answers. (The
// shopper reports SSH as available as soon as a machine has an address.) A value that can't be read is null, with a warning.
func Show(ctx context.Context, client *shopper.Client, sessions []shopper.Session, now time.Time) ([]Model, diag.Diagnostics) {
	models := make([]Model, len(sessions))
	var mu sync.Mutex
	var diags diag.Diagnostics
	warn := func(what string, err error) {
		mu.Lock()
		defer mu.Unlock()
		diags.Append(diagnostic.Warning(what, err))
	}
	var requests, machines errgroup.Group
	requests.SetLimit(most)
	machines.SetLimit(mostMachines)
	for i, s := range sessions {
		models[i] = fromSession(s, now)
		if s.Status == shopper.Running {
			machines.Go(func() error {
				if up, err := answers(ctx, s); err != nil {
					warn("SSH state of session "+s.ID+" is unknown", err)
				} else {
					models[i].SSHAvailable = types.BoolValue(up)
				}
				return nil
			})
		}
		requests.Go(func() error {
			if cost, err := client.SessionCost(ctx, s.ID); err != nil {
				warn("Cost of session "+s.ID+" is unknown", err)
			} else {
				models[i].Cost = attrs.Exact(cost.TotalCost)
			}
			return nil
		})
	}
	_, _ = requests.Wait(), machines.Wait() // what failed is in diags
	return models, diags
}

// answers reports whether the session's machine answers. The error is ctx's.
func answers(ctx context.Context, s shopper.Session) (bool, error) {
	limited, cancel := context.WithTimeout(ctx, sshPatience)
	defer cancel()
	up := s.SSHHost != "" && s.SSHPort > 0 && host.Answers(limited, s.SSHHost, s.SSHPort)
	if !up && ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return up, nil
}

func fromSession(s shopper.Session, now time.Time) Model {
	m := Model{
		ID: types.StringValue(s.ID), Name: attrs.Text(Name(s)), Mark: attrs.Text(s.ConsumerID), Status: types.StringValue(string(s.Status)),
		Error: attrs.Text(s.Error),
		Cloud: attrs.Text(s.Cloud), GPUType: attrs.Text(s.GPUType), GPUCount: types.Int64Value(int64(rental.GPUs(s.Cloud, s.GPUCount))),
		PricePerHour: attrs.Exact(s.PricePerHour), ReservedHours: types.Int64Value(int64(s.ReservationHours)),
		CreatedAt: attrs.Moment(s.CreatedAt), ExpiresAt: attrs.Moment(s.ExpiresAt), HoursLeft: types.Float64Value(0),
	}
	if s.SSHHost != "" {
		m.SSH = &sshModel{Host: types.StringValue(s.SSHHost), Port: attrs.Number(s.SSHPort), User: attrs.Text(s.SSHUser)}
	}
	if left := s.ExpiresAt.Sub(now); Alive(s) && left > 0 {
		m.HoursLeft = attrs.Exact(float64(left.Round(time.Minute)) / float64(time.Hour))
	}
	return m
}
