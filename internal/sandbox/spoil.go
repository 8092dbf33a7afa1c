package sandbox

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// ServeHTTP answers requests to the service, and to the sandbox's own routes.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.requests.Enter() {
		cut(w)
		return
	}
	defer s.requests.Leave()
	id := r.Header.Get(requestIDHeader)
	if !validRequestID.MatchString(id) {
		id = uuid.NewString()
	}
	w.Header().Set(requestIDHeader, id)
	started := time.Now()
	defer func() {
		s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "request_id", id, "duration", time.Since(started))
	}()
	if strings.HasPrefix(r.URL.Path, "/sandbox/") {
		serve(s.controlRoutes, w, r)
		return
	}
	find(s.serviceRoutes, r)
	s.asked.add(r.Pattern)
	struck := s.struck(r)
	if len(struck) == 0 {
		serve(s.serviceRoutes, w, r)
		return
	}
	x := &exchange{s: s, w: w, r: r}
	x.spoil(struck)
}

func serve(routes []route, w http.ResponseWriter, r *http.Request) {
	if handle := find(routes, r); handle != nil {
		if err := handle(w, r); err != nil {
			writeError(w, err)
		}
		return
	}
	if path, ok := strings.CutSuffix(r.URL.Path, "/"); ok && redirectWithoutSlash(routes, w, r, path) {
		return
	}
	notFound(w)
}

// redirectWithoutSlash redirects a path that has one slash too many at its end.
func redirectWithoutSlash(routes []route, w http.ResponseWriter, r *http.Request, path string) bool {
	there := r.Clone(r.Context())
	there.URL.Path, there.URL.RawPath = path, ""
	if find(routes, there) == nil {
		return false
	}
	status := http.StatusTemporaryRedirect
	if r.Method == http.MethodGet {
		status = http.StatusMovedPermanently
	}
	http.Redirect(w, r, there.URL.String(), status) //nolint:gosec // to a route of this service, which was found above
	return true
}

// struck counts the request and returns the faults that strike it.
func (s *Sandbox) struck(r *http.Request) []strike {
	matches := func(rule string) bool { return matchesRoute(rule, r.Method, r.URL.Path) }
	var about subject
	if s.faults.selective(matches) {
		about = s.about(r.URL.Path, peekBody(r))
	}
	return s.faults.Strike(matches, about)
}

// peekBody reads a request's body and leaves it to be read again.
func peekBody(r *http.Request) createSession {
	var body createSession
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(data), r.Body), r.Body}
	if err == nil {
		_ = json.Unmarshal(data, &body) // another body has neither offer nor consumer
	}
	return body
}

// exchange is a request that faults strike. It has the answer once the request has taken
// effect.
type exchange struct {
	s *Sandbox
	w http.ResponseWriter
	r *http.Request

	status int
	header http.Header
	body   []byte
}

// spoil answers the request: first the faults that keep it from taking effect, then the
// effect, then the faults that spoil the answer.
func (x *exchange) spoil(struck []strike) {
	peekBody(x.r) // net/http notices that a client hung up only once the body was read
	for _, s := range struck {
		if s.row.before != nil && s.row.before(x, s.v) {
			return
		}
	}
	recorded := httptest.NewRecorder()
	recorded.Header().Set(requestIDHeader, x.w.Header().Get(requestIDHeader))
	serve(x.s.serviceRoutes, recorded, x.r)
	x.status, x.header, x.body = recorded.Code, recorded.Header(), recorded.Body.Bytes()
	for _, s := range struck {
		if s.row.after != nil && s.row.after(x, s.v) {
			return
		}
	}
	x.send(x.body)
}

// send sends the answer with this body.
func (x *exchange) send(body []byte) {
	maps.Copy(x.w.Header(), x.header)
	x.w.WriteHeader(x.status)
	_, _ = x.w.Write(body) // the client has hung up
}

// rateLimit allows a number of requests in each second.
type rateLimit struct {
	mu     sync.Mutex
	second time.Time
	n      float64
}

func (l *rateLimit) allow(perSecond float64, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.second) >= time.Second {
		l.second, l.n = now, 0
	}
	l.n++
	return l.n <= perSecond
}

// claimSuccess answers a request to destroy as a success.
func (x *exchange) claimSuccess(value) bool {
	if params, ok := matchPath("/api/v1/sessions/{id}/done", x.r.URL.Path); ok {
		return acknowledge(x.w, "session shutdown initiated", params["id"]) == nil
	}
	if params, ok := matchPath("/api/v1/sessions/{id}", x.r.URL.Path); ok && x.r.Method == http.MethodDelete {
		return acknowledge(x.w, "session destroyed", params["id"]) == nil
	}
	return false
}

func (x *exchange) notReady(value) bool {
	if x.r.URL.Path == "/ready" {
		return x.s.writeReady(x.w, false) == nil
	}
	return x.s.writeHealth(x.w, false) == nil
}

func (x *exchange) brokenJSON(value) bool {
	x.send(append(bytes.TrimSuffix(x.body, []byte("}")), `, "broken`...))
	return true
}

// instead answers with a status.
func (x *exchange) instead(a answer) bool {
	x.retryAfter(a.RetryAfter)
	writeError(x.w, refuse(a.Status, "%s", a.text()))
	return true
}

// page answers with a proxy's page.
func (x *exchange) page(a answer) bool {
	x.retryAfter(a.RetryAfter)
	x.w.Header().Set("Content-Type", "text/html")
	x.w.WriteHeader(a.Status)
	_, _ = fmt.Fprintf(x.w, "<html>\r\n<head><title>%[1]d %[2]s</title></head>\r\n<body>\r\n<center><h1>%[1]d %[2]s</h1></center>\r\n"+
		"<hr><center>nginx/1.27.3</center>\r\n</body>\r\n</html>\r\n", a.Status, a.text())
	return true
}

func (a answer) text() string { return cmp.Or(a.Error, http.StatusText(a.Status), "sandbox fault") }

// retryAfter sets the Retry-After header to a rule's value.
func (x *exchange) retryAfter(v any) {
	text := fmt.Sprint(v)
	word, rest, _ := strings.Cut(text, ":")
	switch word {
	case "<nil>":
		return
	case "date":
		if d, err := time.ParseDuration(cmp.Or(rest, "2s")); err == nil {
			text = time.Now().Add(d).UTC().Format(http.TimeFormat)
		}
	case "nonsense":
		text = "in a little while"
	case "day":
		text = "86400"
	}
	x.w.Header().Set("Retry-After", text)
}

// drip sends the answer in pieces.
func (x *exchange) drip(v value) bool {
	const pieces = 20
	x.header.Set("Content-Length", strconv.Itoa(len(x.body)))
	x.send(nil)
	flush := http.NewResponseController(x.w)
	size := len(x.body)/pieces + 1
	pause := v.length / time.Duration(len(x.body)/size+1)
	for piece := range slices.Chunk(x.body, size) {
		_ = flush.Flush()
		if x.s.clock.Sleep(x.r.Context(), pause) != nil {
			return true
		}
		if _, err := x.w.Write(piece); err != nil {
			return true
		}
	}
	return true
}

// remove removes members from the answer, at any depth. It doesn't send the answer.
func (x *exchange) remove(names ...string) bool {
	var body any
	if json.Unmarshal(x.body, &body) != nil {
		return false
	}
	removeMembers(body, names)
	if data, err := json.Marshal(body); err == nil {
		x.body = data
	}
	return false
}

func removeMembers(from any, names []string) {
	switch from := from.(type) {
	case map[string]any:
		for _, name := range names {
			delete(from, name)
		}
		for _, member := range from {
			removeMembers(member, names)
		}
	case []any:
		for _, member := range from {
			removeMembers(member, names)
		}
	}
}

// cut closes the client's connection without an answer, and returns true.
func cut(w http.ResponseWriter) bool {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
	}
	return true
}

// cutAfter closes the connection after n bytes of the body; below 0, after half of it.
func (x *exchange) cutAfter(n int) bool {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return true
	}
	defer conn.Close()
	if n < 0 {
		n = len(x.body) / 2
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", x.status, http.StatusText(x.status))
	x.header.Set("Content-Length", strconv.Itoa(len(x.body)))
	_ = x.header.Write(&head) // to memory
	head.WriteString("\r\n")
	head.Write(x.body[:min(n, len(x.body))])
	_, _ = conn.Write(head.Bytes())
	return true
}
