package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

//go:embed byhand.sh
var script string

// slow is the sandbox's speed where waiting matters: a minute of the service's takes six seconds.
const slow = 10

// byHand compares the provider's main job with a shell script that does it.
func byHand(ctx context.Context, w *world) ([]row, error) {
	for _, program := range []string{"ssh", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			return []row{{what: "Rent, serve and ask, against a shell script", note: "not measured: no " + program + " here"}}, nil //nolint:nilerr // the row says so
		}
	}
	s, err := w.startService(ctx, 2, loading, slow)
	if err != nil {
		return nil, err
	}
	stack, err := w.newStack("provider", s.url, deployments(1))
	if err != nil {
		return nil, err
	}
	ours := func(ctx context.Context) (spent, error) {
		begun := time.Now()
		_, err := stack.apply(ctx, 10)
		return spent{wall: time.Since(begun)}, errors.Join(err, stack.destroy(ctx))
	}
	rounds := 0
	hand := func(ctx context.Context) (spent, error) {
		rounds++
		return w.runScript(ctx, s, "script"+strconv.Itoa(rounds))
	}
	took, err := interleaved(ctx, 3, ours, hand)
	if err != nil {
		return nil, err
	}
	return []row{{
		what: "Rent, serve and ask, against a shell script", value: took[0].ratio(took[1]), unit: "×", goal: 1,
		note: fmt.Sprintf("%s to %s; the script looks every 5 s, pins no host key, and leaves the machine to bill when it fails",
			seconds(median(took[0].wall)), seconds(median(took[1].wall))),
	}}, nil
}

// runScript runs the script with its files in a new folder of this name.
func (w *world) runScript(ctx context.Context, s *service, name string) (spent, error) {
	folder := filepath.Join(w.dir, name)
	if err := os.Mkdir(folder, 0o700); err != nil {
		return spent{}, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return spent{}, err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err := errors.Join(err, listener.Close()); err != nil {
		return spent{}, err
	}
	command := exec.Command("sh", "-c", script) //nolint:noctx // finish ends it
	command.Env = append(os.Environ(), "SHOPPER_URL="+s.url, "OFFER=vastai-2", "MODEL="+model, "PORT="+port, "FOLDER="+folder)
	return finish(ctx, command)
}
