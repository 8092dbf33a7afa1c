package vllmserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// errEngineKilled ends a start whose engine has been killed.
var errEngineKilled = errors.New("the engine has been killed")

// children are a server's other processes, with the recorded names, in its session. They do
// nothing. If one is killed, the server reacts as a real one does; they end with it.
type children struct {
	cancel context.CancelCauseFunc // of the start
	killed chan struct{}           // closed when a process of the engine was killed
	once   sync.Once
	pipes  []io.Closer
	waits  sync.WaitGroup
	ending bool
	mu     sync.Mutex
}

// shell is a child's script. It ends with its standard input, and leaves TERM and INT to
// the main process.
const shell = "trap '' TERM INT\nprintf %%s '%s' 2>/dev/null >/proc/self/comm\n"

var processRow = regexp.MustCompile(`(?m)^ *\d+ +\d+ +\d+ +\d+ (\S+) +(.*)$`)

// startChildren starts the recorded processes of the release.
func (r *run) startChildren() error {
	workers := r.opts.workers()
	rows := processRow.FindAllStringSubmatch(facts.Processes(r.place.version), -1)[1:] // the first is vllm itself
	if len(workers) > 1 {
		rows = slices.DeleteFunc(rows, func(row []string) bool { return row[2] == "VLLM::Worker" })
		for _, worker := range workers {
			rows = append(rows, []string{"", "VLLM::" + worker, "VLLM::" + worker})
		}
	}
	for _, row := range rows {
		sockets, err := r.openSockets(row[1])
		if err == nil {
			err = errors.Join(r.children.start(row[1], row[2], sockets), closeAll(sockets))
		}
		if err != nil {
			return fmt.Errorf("starting %s: %w", row[2], err)
		}
	}
	return nil
}

var openSocket = regexp.MustCompile(`(?m)^LISTEN +\d+ +\d+ +\*:\d+ +\*:\* +users:\(\("([^"]+)"`)

// openSockets are the sockets that a recorded process has open on all addresses. They are real, so that /proc/net shows
// them, but are reachable only through loopback. Those of a container would be in its network, and are left out.
func (r *run) openSockets(process string) (sockets []*os.File, err error) {
	if r.place.root == "" || r.place.bridged || r.place.atLeast(unrecorded().LoopbackOnly.Since) {
		return nil, nil
	}
	for _, row := range openSocket.FindAllStringSubmatch(facts.Processes(r.place.version), -1) {
		if row[1] != process {
			continue
		}
		socket, err := listenOpenly()
		if err != nil {
			return nil, errors.Join(err, closeAll(sockets))
		}
		if socket != nil {
			sockets = append(sockets, socket)
		}
	}
	return sockets, nil
}

func closeAll(files []*os.File) (err error) {
	for _, file := range files {
		err = errors.Join(err, file.Close())
	}
	return err
}

// workers are the names of the engine's workers, as setup_proc_title_and_log_prefix in 0.32.0's
// vllm/v1/executor/multiproc_executor.py makes them. Those of two workers are recorded (runs/two-workers).
func (o options) workers() []string {
	tp, pp := o.number("tensor-parallel-size", 1), o.number("pipeline-parallel-size", 1)
	var names []string
	for stage := range min(pp, maxWorkers) {
		for rank := range min(tp, maxWorkers) {
			name := "Worker"
			if pp > 1 {
				name += "_PP" + strconv.Itoa(stage)
			}
			if tp > 1 {
				name += "_TP" + strconv.Itoa(rank)
			}
			names = append(names, name)
		}
	}
	return names
}

// maxWorkers is more than a machine has GPUs.
const maxWorkers = 32

func (c *children) start(name, line string, sockets []*os.File) error {
	cmd := &exec.Cmd{Path: "/bin/sh", Args: []string{line}, Env: os.Environ(), ExtraFiles: sockets}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.pipes = append(c.pipes, stdin)
	c.waits.Go(func() {
		_ = cmd.Wait() // the exit code doesn't matter
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.ending && strings.HasPrefix(name, "VLLM::") {
			c.once.Do(func() { close(c.killed) })
			c.cancel(errEngineKilled)
		}
	})
	_, err = fmt.Fprintf(stdin, shell, name)
	return err
}

// stop ends the processes and waits for them.
func (c *children) stop() {
	c.mu.Lock()
	c.ending = true
	c.mu.Unlock()
	for _, pipe := range c.pipes {
		_ = pipe.Close()
	}
	c.waits.Wait()
}
