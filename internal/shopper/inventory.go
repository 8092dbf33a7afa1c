package shopper

import "time"

// Offer is a machine that can be rented now.
type Offer struct {
	ID string `json:"id"`
	// Cloud is the service's name of the cloud: vastai, tensordock, bluelobster.
	Cloud string `json:"provider"`
	// CloudID is the cloud's ID of the offer.
	CloudID string `json:"provider_id"`
	GPUType string `json:"gpu_type"`
	// GPUCount is, on TensorDock, the number of GPUs of the whole site; a rental gets one.
	GPUCount int `json:"gpu_count"`
	// VRAMGB is per GPU and truncated: a card of 32607 MiB has 31.
	VRAMGB       int     `json:"vram_gb"`
	PricePerHour float64 `json:"price_per_hour"` // USD
	Location     string  `json:"location"`
	// Reliability is between 0 and 1; 0 on Blue Lobster, which reports none.
	Reliability float64 `json:"reliability"`
	Available   bool    `json:"available"`
	// MaxDurationHours is 0 when the cloud sets no limit.
	MaxDurationHours       int       `json:"max_duration_hours"`
	FetchedAt              time.Time `json:"fetched_at"`
	AvailabilityConfidence float64   `json:"availability_confidence"` // 0 to 1
	// CUDAVersion is the newest that the driver supports; 0 outside Vast.ai.
	CUDAVersion float64 `json:"cuda_version,omitempty"`
	MachineID   string  `json:"machine_id,omitempty"`
	// Interruptible offers can be reclaimed by the cloud at any time.
	Interruptible bool    `json:"interruptible,omitempty"`
	MinBid        float64 `json:"min_bid,omitempty"`
}

func (o *Offer) toUTC() { o.FetchedAt = o.FetchedAt.UTC() }

// OfferFailures describes the recent failures of one offer.
type OfferFailures struct {
	OfferID              string     `json:"offer_id"`
	Cloud                string     `json:"provider"`
	GPUType              string     `json:"gpu_type"`
	RecentFailures       int        `json:"recent_failures"`
	Suppressed           bool       `json:"is_suppressed"`
	SuppressedUntil      *time.Time `json:"suppressed_until"`
	ConfidenceMultiplier float64    `json:"confidence_multiplier"`
	LastFailure          *time.Time `json:"last_failure"`
	LastFailureType      string     `json:"last_failure_type"`
	LastFailureReason    string     `json:"last_failure_reason"`
}

// GPUTypeFailures describes the recent failures of all offers of one GPU type.
type GPUTypeFailures struct {
	Key                string  `json:"gpu_type_key"` // "vastai:H100 SXM5"
	FailedOfferCount   int     `json:"failed_offer_count"`
	Degraded           bool    `json:"is_degraded"`
	DegradationApplied float64 `json:"degradation_applied"`
}

// FailureReport is the service's record of failing offers and GPU types.
type FailureReport struct {
	Offers   []OfferFailures   `json:"offers"`
	GPUTypes []GPUTypeFailures `json:"gpu_types"`
}

func (r *FailureReport) toUTC() {
	for i := range r.Offers {
		for _, t := range []*time.Time{r.Offers[i].SuppressedUntil, r.Offers[i].LastFailure} {
			if t != nil {
				*t = t.UTC()
			}
		}
	}
}

// Template is a Vast.ai template.
type Template struct {
	HashID            string `json:"hash_id"` // what CreateSession takes
	Name              string `json:"name"`
	Image             string `json:"image"`
	Tag               string `json:"tag"`
	Env               string `json:"env"` // Docker flags
	OnStart           string `json:"onstart"`
	RunType           string `json:"runtype"`
	Args              string `json:"args_str"`
	UseSSH            bool   `json:"use_ssh"`
	SSHDirect         bool   `json:"ssh_direct"`
	Recommended       bool   `json:"recommended"`
	RecommendedDiskGB int    `json:"recommended_disk_space"`
	// ExtraFilters is a JSON text of conditions on the host.
	ExtraFilters string    `json:"extra_filters"`
	CreatedAt    time.Time `json:"created_at"`
	CountCreated int       `json:"count_created"`
}

func (t *Template) toUTC() { t.CreatedAt = t.CreatedAt.UTC() }

// CompatibleTemplate names a template that an offer can run.
type CompatibleTemplate struct {
	HashID string `json:"hash_id"`
	Name   string `json:"name"`
	Image  string `json:"image"`
}
