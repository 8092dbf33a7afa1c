package lifecycle

import (
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// progressPause is how far apart messages are that come often.
const progressPause = time.Second

// progress passes messages on to whoever asked for them, masked, and remembers the last.
type progress struct {
	tell    func(Event)
	secrets []string
	last    string
	at      time.Time
}

// report passes a message on.
func (p *progress) report(phase deploy.Phase, message string) {
	message = vllm.MaskSecrets(message, p.secrets...)
	if message == "" || message == p.last {
		return
	}
	p.last, p.at = message, time.Now()
	if p.tell != nil {
		p.tell(Event{Phase: phase, Message: message})
	}
}

// often passes a message on unless the last one is too fresh.
func (p *progress) often(phase deploy.Phase, message string) {
	if time.Since(p.at) >= progressPause {
		p.report(phase, message)
	}
}
