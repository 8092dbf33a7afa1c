package vllmserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// run is one server, from its arguments to its end.
type run struct {
	opts     options
	place    *place
	log      *logger
	plan     plan
	claimed  machinefs.Claim // the memory that it holds
	children children
	bound    *bound // nil before the port is taken, and while it is listened on
	web      string // prefix of uvicorn's lines
}

// importing is how long a server that imports modules goes on after a TERM.
const importing = 8 * time.Second

// step is a part of a start that can fail. It comes before the first line that contains
// before, or after the first one that contains after.
type step struct {
	before, after string
	stage         stage
	check         func() error
}

// never is in no line.
const never = "\x00"

func (r *run) steps() []step {
	return []step{
		{never, "non-default args:", stageBind, r.checkServer},
		{"Resolved architecture", never, stageConfig, r.findModel},
		{"Using max model len", never, stageConfig, r.configure},
		{"Initializing a V1 LLM engine", never, stageEngine, r.startChildren},
		{"Starting to load model", never, stageDevice, r.openDevices},
		{"Model loading took", never, stageWeights, r.loadWeights},
		{"Available KV cache memory", never, stageCache, r.sizeCache},
		{"Starting vLLM server", never, stageEnd, r.loadAdapters},
	}
}

// start plays a start until the server can listen.
func (r *run) start(ctx context.Context) error {
	if err := r.demandedWhole(ctx); err != nil {
		return err
	}
	if len(r.place.visible) == 0 {
		return r.whole("no-gpu")
	}
	ctx, r.children.cancel = context.WithCancelCause(ctx)
	defer r.children.cancel(nil)
	err := r.play(ctx, r.script(), r.steps())
	switch {
	case errors.Is(err, errInterrupted) && errors.Is(context.Cause(ctx), errEngineKilled):
		return r.fail("engine-killed-loading")
	case errors.Is(err, errInterrupted) && len(r.children.pipes) == 0:
		_ = r.place.sleep(context.WithoutCancel(ctx), r.place.latest().Scale(importing))
	}
	return err
}

// demandedWhole plays the failure of the machine's facts if it is a whole recording, or the engine's.
func (r *run) demandedWhole(ctx context.Context) error {
	name := r.place.failure()
	if name == "" {
		return nil
	}
	row, ok := findRow(name)
	switch {
	case !ok:
		return fmt.Errorf("RuntimeError: the sandbox knows no failure named %q", name)
	case row.At == stageContainer:
		return &startError{lines: []line{{"Error response from daemon: " + row.failure().Message, 0}}, exit: exitContainer}
	case row.At != stageWhole:
		return nil
	}
	rec, _ := facts.Failure(r.place.version, row.Recording)
	if err := r.play(ctx, row.fillLines(r.read(rec), nil), nil); err != nil {
		return err
	}
	return &startError{exit: rec.Exit}
}

// demanded returns the failure of the machine's facts if it belongs to a stage.
func (r *run) demanded(at stage) error {
	name := r.place.failure()
	if row, ok := findRow(name); name != "" && ok && row.At == at {
		return r.fail(name)
	}
	return nil
}

// takePort takes the port early, as a real server does, which listens on it only once the
// engine is ready.
func (r *run) takePort() (err error) {
	if r.opts.text("uds") != "" {
		return nil
	}
	if r.bound, err = r.place.bind(context.Background(), r.opts.text("host"), r.opts.number("port", 8000)); err != nil {
		return r.bindError(err)
	}
	return nil
}

func (r *run) bindError(err error) error {
	switch {
	case addressInUse(err):
		return r.fail("port_in_use")
	case errors.Is(err, errCannotAssign):
		return r.fail("address")
	}
	return errors.New("OSError: " + err.Error())
}

// url is the address that the server logs.
func (r *run) url() string {
	if path := r.opts.text("uds"); path != "" {
		return "unix:" + path
	}
	host := cmp.Or(r.opts.text("host"), "0.0.0.0")
	scheme := "http"
	if r.opts.text("ssl-certfile") != "" {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s:%d", scheme, host, r.opts.number("port", 8000))
}
