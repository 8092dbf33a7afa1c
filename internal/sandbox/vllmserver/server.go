package vllmserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// watchEvery is how often a running server looks whether its facts want it to
// die or to go on after a hang.
const watchEvery = 50 * time.Millisecond

// server answers the HTTP API of one run.
type server struct {
	run     *run
	tokens  [][sha256.Size]byte
	root    string // --root-path
	started time.Time
	metrics metrics
	dead    atomic.Bool
	// ending is closed when running requests are to be given up.
	ending <-chan struct{}
}

// listen serves until ctx ends or the engine dies, and returns the exit code.
func (r *run) listen(ctx context.Context) int {
	listener, err := r.open(ctx)
	if err != nil {
		return r.ended(bindError(err))
	}
	engine, giveUp := context.WithCancel(ctx)
	defer giveUp()
	s := &server{run: r, root: strings.TrimRight(r.opts.text("root-path"), "/"), started: time.Now(), ending: engine.Done()}
	s.metrics.init()
	s.keys()
	web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: time.Minute, ErrorLog: nil}
	if web.TLSConfig, err = r.tls(); err != nil {
		_ = listener.Close()
		r.log.traceback(err.Error())
		return exitFailure
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = serveOn(web, listener) // it ends with http.ErrServerClosed
	}()
	r.tellListening()
	died := s.watch(ctx)
	if died {
		r.engineDied()
	}
	r.log.api("launcher.py:110", "Shutting down FastAPI HTTP server.")
	giveUp()
	stop(ctx, web)
	<-served
	for _, line := range []string{"Shutting down", "Waiting for application shutdown.", "Application shutdown complete."} {
		r.log.uvicorn("%s", line)
	}
	r.log.uvicorn("Finished server process [%d]", r.place.pid)
	if died {
		return exitFailure
	}
	return exitOK
}

func serveOn(web *http.Server, listener net.Listener) error {
	if web.TLSConfig != nil {
		return web.ServeTLS(listener, "", "")
	}
	return web.Serve(listener)
}

// stop gives running requests a moment to notice that they are given up.
func stop(ctx context.Context, web *http.Server) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if web.Shutdown(ctx) != nil {
		_ = web.Close()
	}
}

func (r *run) open(ctx context.Context) (net.Listener, error) {
	if path := r.opts.text("uds"); path != "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		return new(net.ListenConfig).Listen(ctx, "unix", path)
	}
	return r.place.listen(ctx, r.opts.text("host"), r.opts.number("port", 8000))
}

// tls returns nil where the server speaks plain HTTP.
func (r *run) tls() (*tls.Config, error) {
	certFile, keyFile := r.opts.text("ssl-certfile"), r.opts.text("ssl-keyfile")
	if certFile == "" && keyFile == "" {
		return nil, nil //nolint:nilnil // nil is http.Server's own word for no TLS
	}
	if keyFile == "" { // uvicorn: the key may be in the certificate's file
		keyFile = certFile
	}
	cert, err := tls.LoadX509KeyPair(r.place.file(certFile), r.place.file(keyFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("FileNotFoundError: [Errno 2] No such file or directory")
	}
	if err != nil {
		return nil, errors.New("ssl.SSLError: [SSL] PEM lib (_ssl.c:3900)")
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

func (r *run) tellListening() {
	what := "Starting vLLM server on %s"
	if !r.place.atLeast("0.16") {
		what = "Starting vLLM API server 0 on %s"
	}
	r.log.api("api_server.py:2052", what, r.url())
	r.log.api("launcher.py:38", "Available routes are:")
	for _, route := range []string{"/health, Methods: GET", "/version, Methods: GET", "/v1/models, Methods: GET", "/v1/completions, Methods: POST", "/v1/chat/completions, Methods: POST", "/metrics, Methods: GET"} {
		r.log.api("launcher.py:46", "Route: %s", route)
	}
	r.log.uvicorn("Started server process [%d]", r.place.pid)
	r.log.uvicorn("Waiting for application startup.")
	r.log.uvicorn("Application startup complete.")
}

// watch returns when the server is to end: false when it was told to, true when
// its facts let the engine die.
func (s *server) watch(ctx context.Context) (died bool) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
		facts := s.run.place.latest()
		after := facts.VLLM.ExitAfter
		if after <= 0 || time.Since(s.started) < facts.Scale(after) || s.dead.Load() {
			continue
		}
		s.dead.Store(true)
		if s.run.place.env["VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"] != "1" {
			return true
		}
		s.run.engineDied()
	}
}

func (r *run) engineDied() {
	r.log.plainError(r.log.engine+" "+stamp("ERROR", "core.py:875")+" EngineCore encountered a fatal error.",
		r.log.server+" "+stamp("ERROR", "async_llm.py:546")+" AsyncLLM output_handler failed.",
		r.log.server+" vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.")
	r.dropClaim()
}

// keys reads the API keys: the flag wins over the environment, empty ones count
// for nothing.
func (s *server) keys() {
	keys := s.run.opts.given["api-key"]
	if len(keys) == 0 {
		keys = []string{s.run.place.env["VLLM_API_KEY"]}
	}
	for _, key := range keys {
		if key != "" {
			s.tokens = append(s.tokens, sha256.Sum256([]byte(key)))
		}
	}
}

// guarded are the paths that want the key (vllm/entrypoints/serve/utils/
// server_utils.py). Releases before 0.17 guard /v1 only.
func (s *server) guarded(path string) bool {
	if !s.run.place.atLeast("0.17") {
		return strings.HasPrefix(path, "/v1")
	}
	for _, prefix := range []string{"/v1", "/v2", "/inference", "/cohere"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

func (s *server) authorized(req *http.Request) bool {
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(token))
	match := 0
	for _, want := range s.tokens {
		match |= subtle.ConstantTimeCompare(sum[:], want[:])
	}
	return match == 1
}

// handler is the routes behind what every request passes: the root path, the
// API key and the access log.
func (s *server) handler() http.Handler {
	routes := s.routes()
	quiet := s.run.opts.on("disable-uvicorn-access-log")
	unlogged := strings.Split(s.run.opts.text("disable-access-log-for-endpoints"), ",")
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		uri := req.URL.RequestURI()
		if s.root != "" {
			req.URL.Path = strings.TrimPrefix(req.URL.Path, s.root)
			req.URL.RawPath = ""
		}
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		if s.run.opts.on("enable-request-id-headers") {
			id := req.Header.Get("X-Request-Id")
			if id == "" {
				id = newID("")
			}
			rec.Header().Set("X-Request-Id", id)
		}
		if len(s.tokens) > 0 && req.Method != http.MethodOptions && s.guarded(req.URL.Path) && !s.authorized(req) {
			writeJSON(rec, http.StatusUnauthorized, map[string]string{"error": "Unauthorized"})
		} else {
			routes.ServeHTTP(rec, req)
		}
		for _, path := range unlogged {
			if quiet || path != "" && path == req.URL.Path {
				return
			}
		}
		s.run.log.access(req.Method, uri, rec.status, http.StatusText(rec.status))
	})
}

// recorder notes the status for the access log.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// hanging says whether the facts make the engine hang now.
func (s *server) hanging() bool { return s.run.place.latest().VLLM.Hang }

// waitForEngine blocks while the engine hangs; false means that the request is
// given up.
func (s *server) waitForEngine(ctx context.Context) bool {
	if !s.hanging() {
		return true
	}
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-s.ending:
			return false
		case <-ticker.C:
			if !s.hanging() {
				return true
			}
		}
	}
}
