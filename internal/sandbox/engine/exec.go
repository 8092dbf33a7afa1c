package engine

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	containertypes "github.com/moby/moby/api/types/container"
)

// execution is a command that is run in a running container.
type execution struct {
	id        string
	container *container
	ask       containertypes.ExecCreateRequest

	mu   sync.Mutex
	proc *process
	code *int
}

func (e *Engine) createExec(w http.ResponseWriter, req *http.Request, c *container) error {
	x := &execution{id: newID(), container: c}
	if err := readJSON(req, &x.ask); err != nil {
		return err
	}
	if len(x.ask.Cmd) == 0 {
		return refusal(http.StatusBadRequest, "No exec command specified")
	}
	if s := c.snapshot(); !s.Running || s.Restarting {
		return refusal(http.StatusConflict, "container %s is not running", c.id)
	}
	e.mu.Lock()
	e.execs[x.id] = x
	e.mu.Unlock()
	return writeJSON(w, http.StatusCreated, map[string]string{"Id": x.id})
}

func (e *Engine) exec(req *http.Request) (*execution, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x, ok := e.execs[req.PathValue("id")]; ok {
		return x, nil
	}
	return nil, refusal(http.StatusNotFound, "No such exec instance: %s", req.PathValue("id"))
}

func (e *Engine) startExec(w http.ResponseWriter, req *http.Request) error {
	x, err := e.exec(req)
	if err != nil {
		return err
	}
	var body containertypes.ExecStartRequest
	if err := readJSON(req, &body); err != nil {
		return err
	}
	if body.Detach {
		if _, err := e.launchExec(x, io.Discard, io.Discard); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	conn, err := hijack(w, req, x.ask.Tty)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(e.life, func() { _ = conn.Close() })()
	stdout, stderr := &frameWriter{conn: conn, stream: "stdout", tty: x.ask.Tty}, &frameWriter{conn: conn, stream: "stderr", tty: x.ask.Tty}
	proc, err := e.launchExec(x, stdout, stderr)
	if err != nil {
		_ = writeFrame(conn, x.ask.Tty, false, logEntry{Stream: "stderr", Log: "OCI runtime exec failed: " + err.Error() + "\r\n"})
		return nil
	}
	<-proc.done
	return nil
}

func (e *Engine) launchExec(x *execution, stdout, stderr io.Writer) (*process, error) {
	c := x.container
	gpus, err := e.gpus(c)
	if err != nil {
		return nil, err
	}
	proc, err := e.launch(c, x.ask.Cmd, e.environment(c, gpus, x.ask.Env), nil, stdout, stderr)
	if err != nil {
		code := 127
		x.mu.Lock()
		x.code = &code
		x.mu.Unlock()
		return nil, err
	}
	x.mu.Lock()
	x.proc = proc
	x.mu.Unlock()
	c.mu.Lock()
	supervised := c.supervised
	c.mu.Unlock()
	e.background(func() {
		select {
		case <-proc.done:
		case <-supervised: // a container takes its commands with it
			proc.killGroup()
			<-proc.done
		}
		x.mu.Lock()
		x.code = &proc.code
		x.mu.Unlock()
	})
	return proc, nil
}

func (e *Engine) inspectExec(w http.ResponseWriter, req *http.Request) error {
	x, err := e.exec(req)
	if err != nil {
		return err
	}
	x.mu.Lock()
	proc, code := x.proc, x.code
	x.mu.Unlock()
	out := containertypes.ExecInspectResponse{
		ID: x.id, ContainerID: x.container.id, ExitCode: code, OpenStdout: true, OpenStderr: true,
		ProcessConfig: &containertypes.ExecProcessConfig{
			Tty: x.ask.Tty, Entrypoint: x.ask.Cmd[0], Arguments: x.ask.Cmd[1:], User: x.ask.User,
		},
	}
	if proc != nil {
		out.Pid = proc.pid
		select {
		case <-proc.done:
			out.ExitCode = &proc.code
		default:
			out.Running = true
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

// attach streams a container's output to a hijacked connection, until it ends.
func (e *Engine) attach(w http.ResponseWriter, req *http.Request, c *container) error {
	q := logQuery{stdout: flag(req, "stdout"), stderr: flag(req, "stderr"), follow: true, tail: -1, since: time.Now()}
	if flag(req, "logs") {
		q.since = time.Time{}
	}
	before := c.snapshot()
	file, err := os.Open(c.output.path) // while it is there: a container may end, and be removed with its log, at once
	if err != nil {
		return err
	}
	defer file.Close()
	conn, err := hijack(w, req, c.config.Tty)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(e.life)
	defer cancel()
	defer context.AfterFunc(e.life, func() { _ = conn.Close() })()
	gone := make(chan struct{})
	go func() { // standard input is nobody's; its end may be only half the connection's
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn)
	}()
	defer func() { _ = conn.Close(); <-gone }()
	// `docker run` attaches first and starts afterwards.
	if err := c.await(ctx, func(s state, removed bool) bool {
		return s.Running || s.Runs > before.Runs || removed || s.Error != before.Error
	}); err != nil {
		return nil // the engine closes
	}
	return c.copyLog(ctx, file, q, func(entry logEntry) error { return writeFrame(conn, c.config.Tty, false, entry) })
}

// frameWriter frames what a command writes.
type frameWriter struct {
	conn   io.Writer
	stream string
	tty    bool
}

func (f *frameWriter) Write(data []byte) (int, error) {
	for start := 0; start < len(data); start += maxLogEntry {
		piece := data[start:min(len(data), start+maxLogEntry)]
		if err := writeFrame(f.conn, f.tty, false, logEntry{Stream: f.stream, Log: string(piece)}); err != nil {
			return start, err
		}
	}
	return len(data), nil
}

// hijack takes the connection of a request over, as the engine does for attached
// streams.
func hijack(w http.ResponseWriter, req *http.Request, tty bool) (net.Conn, error) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	kind := "application/vnd.docker.multiplexed-stream"
	if tty {
		kind = "application/vnd.docker.raw-stream"
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
	if req.Header.Get("Upgrade") != "" {
		head = fmt.Sprintf("HTTP/1.1 101 UPGRADED\r\nContent-Type: %s\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", kind)
	}
	if _, err := io.WriteString(conn, head); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}
