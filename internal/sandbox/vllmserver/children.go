package vllmserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// errEngineKilled ends a start whose engine has been killed.
var errEngineKilled = errors.New("the engine has been killed")

// children are the processes that a server has besides its main one, under the
// names that were recorded, in its session. They do nothing: killed, they mean
// what the real ones mean; without their server they end.
type children struct {
	cancel context.CancelCauseFunc // of the start
	killed chan struct{}           // closed when one that matters was killed
	once   sync.Once
	pipes  []io.Closer
	waits  sync.WaitGroup
	ending bool
	mu     sync.Mutex
}

// shell keeps a child until its standard input ends. TERM and INT, which a whole
// session gets, are the main process's affair.
const shell = "trap '' TERM INT\nprintf %%s '%s' 2>/dev/null >/proc/self/comm\n"

var processRow = regexp.MustCompile(`(?m)^ *\d+ +\d+ +\d+ +\d+ (\S+) +(.*)$`)

// startChildren starts the processes that the release was recorded to have.
func (r *run) startChildren() error {
	main := true
	for _, row := range processRow.FindAllStringSubmatch(facts.Processes(r.place.version), -1) {
		if main { // vllm itself
			main = false
			continue
		}
		if err := r.children.start(row[1], row[2]); err != nil {
			return fmt.Errorf("starting %s: %w", row[2], err)
		}
	}
	return nil
}

func (c *children) start(name, line string) error {
	cmd := &exec.Cmd{Path: "/bin/sh", Args: []string{line}, Env: os.Environ()}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.pipes = append(c.pipes, stdin)
	c.waits.Go(func() {
		_ = cmd.Wait() // how it ended doesn't matter
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
