package lifecycle

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// broken is a machine whose connection has ended.
type broken struct {
	deploy.Machine
	err error
}

func (b broken) Err() error { return b.err }

// Run answers when its caller gives up, as nvidia-smi does where the driver hangs.
func (b broken) Run(ctx context.Context, _ host.Command) (host.Result, error) {
	<-ctx.Done()
	return host.Result{ExitCode: -1}, ctx.Err()
}

// A driver that hangs is reported after half a minute, as one that doesn't work.
func TestDriverThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		_, err := deploy.QueryGPUs(t.Context(), broken{})
		if _, ok := errors.AsType[*deploy.DriverError](err); !ok || time.Since(begun) != 30*time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}

// A lost connection is borne. A final error isn't, however a library wraps it.
func TestOnlyALossIsBorne(t *testing.T) {
	t.Parallel()
	kind := func(kind host.Kind) error { return &host.Error{Kind: kind, Err: errors.New("x")} }
	strange := errors.New("unexpected EOF")
	for name, test := range map[string]struct {
		err, connection error
		borne           bool
	}{
		"lost":               {kind(host.Lost), kind(host.Lost), true},
		"a library's error":  {strange, kind(host.Lost), true},
		"another error":      {strange, nil, false},
		"changed host key":   {kind(host.HostKeyChanged), kind(host.Lost), false},
		"refused login":      {kind(host.AuthFailed), kind(host.Lost), false},
		"changed, a library": {strange, kind(host.HostKeyChanged), false},
	} {
		l := &launch{machine: broken{err: test.connection}}
		if borne := l.bears(deploy.PhaseLoad, test.err); borne != test.borne {
			t.Errorf("%s: borne %t", name, borne)
		}
	}
}
