package sandbox

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// createSession is the body of POST /api/v1/sessions.
type createSession struct {
	Consumer      string `json:"consumer_id"`
	Offer         string `json:"offer_id"`
	Workload      string `json:"workload_type"`
	Hours         int    `json:"reservation_hours"`
	IdleThreshold int    `json:"idle_threshold_minutes"` // stored by the real service and never used
	StoragePolicy string `json:"storage_policy"`         // the same
	LaunchMode    string `json:"launch_mode"`
	DockerImage   string `json:"docker_image"`
	Model         string `json:"model_id"`
	Ports         []int  `json:"exposed_ports"`
	Quantization  string `json:"quantization"`
	Template      string `json:"template_hash_id"`
	DiskGB        int    `json:"disk_gb"`
	AutoRetry     bool   `json:"auto_retry"`
	MaxRetries    int    `json:"max_retries"`
	RetryScope    string `json:"retry_scope"`
	OnStart       string `json:"on_start_cmd"`
	SSHTimeout    int    `json:"ssh_timeout_minutes"`
}

var workloadTypes = []string{"llm", "llm_vllm", "llm_tgi", "training", "batch", "interactive", "inference", "ssh", "benchmark"}

// validate makes the checks that the service makes before it looks at the market.
func (r *createSession) validate() error {
	var problems []string
	for _, field := range []struct{ name, value string }{
		{"consumer_id", r.Consumer}, {"offer_id", r.Offer}, {"workload_type", r.Workload},
	} {
		if field.value == "" {
			problems = append(problems, field.name+" is required")
		}
	}
	if p := hoursProblem("reservation_hours", r.Hours); p != "" {
		problems = append(problems, p)
	}
	switch {
	case len(problems) > 0:
		return refuse(http.StatusBadRequest, "%s", strings.Join(problems, "; "))
	case !slices.Contains(workloadTypes, r.Workload):
		return refuse(http.StatusBadRequest, "invalid workload_type: must be one of: %s", strings.Join(workloadTypes, ", "))
	case r.AutoRetry && r.RetryScope != "" && !slices.Contains([]string{"same_gpu", "same_vram", "any"}, r.RetryScope):
		return refuse(http.StatusBadRequest, "invalid retry_scope: must be one of: same_gpu, same_vram, any")
	}
	return nil
}

func hoursProblem(name string, hours int) string {
	switch {
	case hours == 0:
		return name + " is required"
	case hours < 1:
		return name + " must be at least 1"
	case hours > 12:
		return name + " must be at most 12"
	default:
		return ""
	}
}

// attempt is the position of a rental in a chain of auto_retry.
type attempt struct {
	count           int
	parent          string
	failed, machine []string // offers and hosts that are not tried again
}

// rent makes a session: first its row, then its machine. The verification goes on
// after the answer.
func (s *service) rent(ctx context.Context, req createSession, offer listedOffer, try attempt) (session, string, error) {
	if try.count == 0 {
		if other, found := s.sessions.Active(req.Consumer, req.Offer); found {
			return session{}, "", duplicate(other)
		}
	}
	key, err := s.keys.Next()
	if err != nil {
		return session{}, "", err
	}
	row, unique := s.sessions.Create(s.newRow(req, offer, try), true)
	if !unique {
		return session{}, "", duplicate(row)
	}
	if row.DiskGB, err = diskFor(req); err != nil {
		return session{}, "", err // the row stays behind as pending: a quirk of the real service
	}
	row.Template = req.Template
	row.Status = statusProvisioning
	s.sessions.Update(row)

	killed := false
	template, _ := s.template(req.Template)
	inst, err := s.cloud.Create(ctx, createRequest{
		offerID: offer.ID, session: row.ID, consumer: row.Consumer, publicKey: key.public, cloudName: offer.Provider, diskGB: row.DiskGB,
		template: template, service: s, killed: func(down time.Duration) {
			killed = true
			s.killed(row, down)
		},
	})
	if killed {
		return session{}, "", errKilled
	}
	if err != nil {
		if ctx.Err() != nil {
			return session{}, "", ctx.Err() // nor can the row be written any more: it stays in provisioning
		}
		return s.notRented(ctx, req, offer, row, try, err)
	}
	row.providerID, row.Host, row.Port, row.User = inst.id, inst.host.Host(), inst.host.Port(), inst.host.User()
	if inst.addressLater {
		row.Host, row.Port = "", sshPort
	}
	s.sessions.Credit(row.ID, inst.spent)
	s.sessions.Update(row) // whatever was written meanwhile: a session that was stopped comes back to life
	if !row.entrypoint {
		s.work.Go(func() { s.verify(row, key.signer, req) }) //nolint:contextcheck // it goes on after the answer, as long as the sandbox
	}
	answered := row
	answered.Price = inst.price // in the answer alone: the row keeps the offer's price, a quirk of the real service
	return answered, key.private, nil
}

// errKilled is never answered: the client's connection is broken.
var errKilled = errors.New("the service was killed")

// killed fails a session whose service was killed while it waited for the cloud: the
// service finds a row without a machine when it is back.
func (s *service) killed(row session, down time.Duration) {
	row.Status, row.Error, row.stopped = statusFailed, "no provider instance ID", s.clock.Now()
	s.sessions.Update(row)
	s.shut(down)
}

func duplicate(other session) error {
	return refuse(http.StatusConflict, "consumer %s already has active session %s for offer %s (status: %s)",
		other.Consumer, other.ID, other.offer, other.Status)
}

func (s *service) newRow(req createSession, offer listedOffer, try attempt) session {
	now := s.clock.Now()
	row := session{
		ID: uuid.NewString(), Consumer: req.Consumer, offer: req.Offer, Provider: offer.Provider, machineID: offer.MachineID,
		GPUType: offer.GPUType, GPUCount: offer.GPUCount, Status: statusPending, Workload: req.Workload, Hours: req.Hours,
		Price: offer.PricePerHour, Created: now, Expires: now.Add(time.Duration(req.Hours) * time.Hour), createdAt: s.clock.Elapsed(),
		AutoRetry: req.AutoRetry, maxRetries: req.MaxRetries, retryScope: req.RetryScope, RetryCount: try.count, Parent: try.parent,
		FailedOffers: strings.Join(try.failed, ","), sshTimeout: s.timeout, entrypoint: req.LaunchMode == "entrypoint",
	}
	if req.SSHTimeout > 0 {
		row.sshTimeout = time.Duration(min(req.SSHTimeout, 30)) * time.Minute
	}
	return row
}

// diskFor is the disk that the service asks the cloud for, in GB; 0 = the cloud's usual size.
func diskFor(req createSession) (int, error) {
	need, known := estimateDisk(req.Model, req.Quantization, req.Template)
	switch {
	case !known:
		return max(req.DiskGB, 0), nil
	case req.DiskGB <= 0:
		return need.Recommended, nil
	case req.DiskGB < need.Minimum:
		return 0, &refusal{status: http.StatusBadRequest, text: need.refusal(req.DiskGB), more: map[string]any{
			"error_type": "insufficient_disk", "requested_gb": req.DiskGB,
			"minimum_gb": need.Minimum, "recommended_gb": need.Recommended, "breakdown": need,
		}}
	default:
		return req.DiskGB, nil
	}
}

// notRented fails the row of a rental that the cloud refused. With auto_retry it rents
// another offer within the same request.
func (s *service) notRented(
	ctx context.Context, req createSession, offer listedOffer, row session, try attempt, cause error,
) (session, string, error) {
	s.fail(row, "provider create failed: "+cause.Error())
	kind := "unknown"
	if errors.Is(cause, errStale) {
		kind = "stale_inventory"
	}
	s.health.Record(offer.ID, offer.Provider, offer.GPUType, kind, cause.Error())
	s.inventory.Evict(offer.ID)
	if kind == "unknown" {
		return session{}, "", notCreated(cause)
	}
	if next, found := s.alternative(req, offer, row, &try); found {
		req.Offer = next.ID
		child, key, err := s.rent(ctx, req, next, try)
		if err == nil {
			s.linkChild(row.ID, child.ID, try.failed)
		}
		return child, key, err
	}
	return session{}, "", &refusal{
		status: http.StatusServiceUnavailable, err: cause,
		text: "offer " + offer.ID + " from " + offer.Provider + " unavailable (stale inventory): " + cause.Error() +
			" - consider retrying with a different offer",
		more: map[string]any{
			"error_type": "stale_inventory", "offer_id": offer.ID, "provider": offer.Provider, "retry_suggested": true,
			"message": "The selected offer is no longer available. Please refresh inventory and select a different offer.",
		},
	}
}

// notCreated is the answer to a cloud's other refusals. Its type is guessed from their
// words, as the real service does.
func notCreated(cause error) error {
	kind, retry := "provision_failed", true
	words := strings.ToLower(cause.Error())
	has := func(hints ...string) bool {
		return slices.ContainsFunc(hints, func(word string) bool { return strings.Contains(words, word) })
	}
	switch {
	case has("ssh", "timeout"):
		kind = "ssh_timeout"
	case has("stopped", "terminated"):
		kind = "instance_stopped"
	case has("connection refused"):
		kind = "provider_unavailable"
	case has("not found", "invalid"):
		kind, retry = "invalid_request", false
	}
	return &refusal{
		status: http.StatusInternalServerError, text: "failed to create instance: " + cause.Error(), err: cause,
		more: map[string]any{"error_type": kind, "retry_suggested": retry},
	}
}

// alternative chooses the offer that auto_retry tries next, one of the three best that
// cost at most 1.3 times as much as the best. try becomes the next attempt.
func (s *service) alternative(req createSession, offer listedOffer, row session, try *attempt) (listedOffer, bool) {
	if !req.AutoRetry || try.count >= req.MaxRetries {
		return listedOffer{}, false
	}
	try.failed = append(slices.Clone(try.failed), offer.ID)
	if offer.MachineID != "" {
		try.machine = append(slices.Clone(try.machine), offer.MachineID)
	}
	try.count, try.parent = try.count+1, row.ID
	candidates := s.inventory.Comparable(offer, req.RetryScope, try.failed, try.machine)
	if len(candidates) == 0 {
		return listedOffer{}, false
	}
	n := 0
	for n < min(len(candidates), 3) && candidates[n].PricePerHour <= candidates[0].PricePerHour*1.3 {
		n++
	}
	return candidates[s.pick(n)], true
}

func (s *service) linkChild(parent, child string, failed []string) {
	row, err := s.sessions.Get(parent)
	if err != nil {
		return
	}
	row.Child, row.FailedOffers = child, strings.Join(failed, ",")
	s.sessions.Update(row)
}

// retryLater rents a replacement for a session that failed after its POST was answered.
// No client ever gets the replacement's private key.
func (s *service) retryLater(row session, req createSession) {
	if row.Status != statusFailed || !row.AutoRetry || row.RetryCount >= row.maxRetries {
		return
	}
	try := attempt{count: row.RetryCount}
	if row.FailedOffers != "" {
		try.failed = strings.Split(row.FailedOffers, ",")
	}
	offer, found := s.inventory.Get(row.offer)
	if !found {
		offer.Offer = Offer{
			ID: row.offer, Provider: row.Provider, GPUType: row.GPUType, GPUCount: row.GPUCount,
			PricePerHour: row.Price, MachineID: row.machineID,
		}
	}
	next, found := s.alternative(req, offer, row, &try)
	if !found {
		return
	}
	req.Offer = next.ID
	child, _, err := s.rent(s.life, req, next, try)
	if err != nil {
		s.log.Info("auto_retry failed", "session", row.ID, "error", err)
		return
	}
	s.linkChild(row.ID, child.ID, try.failed)
}
