package vllmserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	recorded "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// watchEvery is how often a running server reads the machine's facts.
const watchEvery = 50 * time.Millisecond

// engineDeath is how long a server outlives its engine, as recorded.
const engineDeath = 5 * time.Second

// server answers the HTTP API of one run.
type server struct {
	run      *run
	recorded []recorded.Exchange // the answers that its own are made from
	tokens   [][sha256.Size]byte
	root     string // --root-path
	started  time.Time
	metrics  metrics
	runtime  runtime
	dead     atomic.Bool
	draining atomic.Bool // new requests are refused
	// ending is closed when running requests have to end.
	ending <-chan struct{}
}

// listen serves until ctx ends or the engine dies, and returns the exit code.
func (r *run) listen(ctx context.Context) int {
	listener, err := r.open(ctx)
	if err != nil {
		return r.ended(r.bindError(err))
	}
	engine, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	s := &server{run: r, recorded: answers(r.place.version), started: time.Now(), ending: engine.Done()}
	s.root = strings.TrimRight(r.opts.text("root-path"), "/")
	s.metrics.init()
	s.runtime.resting = map[string]bool{}
	s.runtime.adapters = r.modules()
	s.keys()
	web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: time.Minute, ErrorLog: nil}
	secure, err := r.tls()
	if err != nil {
		_ = listener.Close()
		return r.ended(err)
	}
	if secure != nil {
		listener = secureListener{tls.NewListener(listener, secure)}
	}
	r.servesNow()
	r.log.plainError(r.web + "INFO:     " + recorded.Ready)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = web.Serve(listener) // it ends with http.ErrServerClosed
	}()
	end := recorded.Start(r.place.version, true)
	if s.watch(ctx) {
		r.dropClaim()
		_ = r.place.sleep(ctx, r.place.latest().Scale(engineDeath)) // a signal ends it sooner
		end, _ = recorded.Ended(r.place.version, "engine-killed-ready")
	} else {
		s.drain(context.WithoutCancel(ctx))
	}
	giveUp()
	stop(ctx, web)
	<-served
	r.printAll(r.ending(end))
	return end.Exit
}

// secureListener hides from net/http that its connections use TLS: uvicorn has no HTTP/2, and closes plain HTTP
// connections without an answer.
type secureListener struct{ net.Listener }

func (l secureListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return struct{ net.Conn }{conn}, err
}

// stop closes the server, after giving running requests a moment to end.
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
	listener, err := r.bound.listen()
	if err == nil {
		r.bound = nil // the listener's from here on
	}
	return listener, err
}

// tls returns nil for plain HTTP.
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
		return nil, r.fail("no_certificate")
	}
	if err != nil {
		return nil, r.fail("bad_certificate")
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// watch waits until the server has to end. It returns true if the engine died, and false
// if ctx ended.
func (s *server) watch(ctx context.Context) (died bool) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-s.run.children.killed:
			s.dead.Store(true)
			return true
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
		s.run.dropClaim()
	}
}

// drain waits for running requests, at most for --shutdown-timeout, and refuses others (runs/draining).
func (s *server) drain(ctx context.Context) {
	seconds, running := s.run.opts.number("shutdown-timeout", 0), s.metrics.running.Load()
	if seconds > 0 && running > 0 {
		s.draining.Store(true)
		s.run.printAll([]line{{text: fmt.Sprintf("(EngineCore pid=%d) INFO {stamp} [core.py:1655] [shutdown] EngineCore: draining in-flight requests"+
			" count=%d timeout=%ds", s.run.place.pid+111, running, seconds)}})
	}
	limit := time.Now().Add(time.Duration(seconds) * time.Second)
	for s.metrics.running.Load() > 0 && time.Now().Before(limit) {
		_ = s.run.place.sleep(ctx, watchEvery)
	}
}

// keys reads the API keys of the flag, else of the environment, and ignores empty ones.
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

// guarded reports whether a path requires the key: /v1 does in every release; /v2, /inference
// and /cohere do in those that were recorded to refuse /inference.
func (s *server) guarded(path string) bool {
	if strings.HasPrefix(path, "/v1") {
		return true
	}
	for _, prefix := range []string{"/v2", "/inference", "/cohere"} {
		if strings.HasPrefix(path, prefix) {
			return s.like("/inference/v1/generate", "").Answer.Status == http.StatusUnauthorized
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

// handler handles the root path, the API key and the access log for all routes.
func (s *server) handler() http.Handler {
	routes := s.routes()
	quiet := s.run.opts.on("disable-uvicorn-access-log")
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		uri := req.URL.RequestURI()
		if s.root != "" {
			req.URL.Path = strings.TrimPrefix(req.URL.Path, s.root)
			req.URL.RawPath = ""
		}
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		if len(s.tokens) > 0 && req.Method != http.MethodOptions && s.guarded(req.URL.Path) && !s.authorized(req) {
			e := s.like("/v1/models", "Unauthorized")
			s.answer(rec, e, body(e))
		} else {
			routes.ServeHTTP(rec, req)
		}
		if !quiet {
			s.run.access(req.Method, uri, rec.status, http.StatusText(rec.status))
		}
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

// waitForEngine waits while the engine hangs; false = the client is gone, or the server ends.
func (s *server) waitForEngine(ctx context.Context) bool {
	for s.run.place.latest().VLLM.Hang {
		select {
		case <-ctx.Done():
			return false
		case <-s.ending:
			return false
		case <-time.After(watchEvery):
		}
	}
	return true
}
