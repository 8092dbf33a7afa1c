package sandbox

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ServeHTTP answers every request to the service or to the sandbox itself.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.requests.Enter() {
		cut(w)
		return
	}
	defer s.requests.Leave()
	id := r.Header.Get(requestIDHeader)
	if !validRequestID.MatchString(id) {
		id = s.requestID()
	}
	w.Header().Set(requestIDHeader, id)
	started := time.Now()
	defer func() {
		s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "request_id", id, "duration", time.Since(started))
	}()
	if strings.HasPrefix(r.URL.Path, "/sandbox/") {
		serve(s.controls, w, r)
		return
	}
	rules := s.struck(r)
	if len(rules) == 0 {
		serve(s.serviceRoutes, w, r)
		return
	}
	s.spoil(w, r, rules)
}

func serve(routes []route, w http.ResponseWriter, r *http.Request) {
	handle, params := find(routes, r)
	if handle != nil {
		handle(w, r, params)
		return
	}
	if path, ok := strings.CutSuffix(r.URL.Path, "/"); ok && redirectWithoutSlash(routes, w, r, path) {
		return
	}
	notFound(w)
}

// redirectWithoutSlash sends a client on whose path has a slash too many.
func redirectWithoutSlash(routes []route, w http.ResponseWriter, r *http.Request, path string) bool {
	there := r.Clone(r.Context())
	there.URL.Path, there.URL.RawPath = path, ""
	if handle, _ := find(routes, there); handle == nil {
		return false
	}
	status := http.StatusTemporaryRedirect
	if r.Method == http.MethodGet {
		status = http.StatusMovedPermanently
	}
	http.Redirect(w, r, there.URL.String(), status) //nolint:gosec // to a route of this service, which was found above
	return true
}

// struck counts the request and returns the rules that spoil it.
func (s *Sandbox) struck(r *http.Request) []Rule {
	matches := func(rule string) bool { return matchesRoute(rule, r.Method, r.URL.Path) }
	var about subject
	if s.faults.selective(matches) {
		about = s.about(r.URL.Path, peekBody(r))
	}
	return s.faults.Strike(matches, about)
}

// peekBody reads a request's body and puts it back.
func peekBody(r *http.Request) createSession {
	var body createSession
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(data), r.Body), r.Body}
	if err == nil {
		_ = json.Unmarshal(data, &body) // what isn't a session concerns nobody
	}
	return body
}

// spoil answers a request as the rules say: first what keeps it from taking
// effect, then the effect, then what spoils the answer.
func (s *Sandbox) spoil(w http.ResponseWriter, r *http.Request, rules []Rule) {
	peekBody(r) // only a request that was read is seen to be given up by its client
	for _, rule := range rules {
		if s.before(w, r, rule) {
			return
		}
	}
	recorded := httptest.NewRecorder()
	recorded.Header().Set(requestIDHeader, w.Header().Get(requestIDHeader))
	serve(s.serviceRoutes, recorded, r)
	full := reply{status: recorded.Code, header: recorded.Header(), body: recorded.Body.Bytes()}
	for _, rule := range rules {
		if s.after(w, r, rule, &full) {
			return
		}
	}
	full.send(w, full.body)
}

// reply is an answer that hasn't been sent yet.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (a *reply) send(w http.ResponseWriter, body []byte) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // the client has hung up
}

// before does what a rule does before the effect. It reports whether the request
// is done with.
func (s *Sandbox) before(w http.ResponseWriter, r *http.Request, rule Rule) bool {
	switch rule.Fault {
	case Delay:
		if s.clock.Sleep(r.Context(), rule.length(30*time.Second)) != nil {
			cut(w) // the client hung up before its request arrived
			return true
		}
		return false
	case LoseAnswerBefore:
		cut(w)
	case ClosedPort:
		s.closePort(rule.length(time.Minute))
		cut(w)
	case RateLimit:
		if s.limit.allow(rule.amount(10), time.Now()) {
			return false
		}
		w.Header().Set("Retry-After", "1")
		writeError(w, refuse(http.StatusTooManyRequests, "rate limit exceeded"))
	case NotReady:
		if r.URL.Path == "/ready" {
			s.writeReady(w, false)
		} else {
			s.writeHealth(w, false)
		}
	case ClaimSuccess:
		return claimSuccess(w, r)
	case OffersGone:
		writeJSON(w, http.StatusOK, map[string]any{"offers": []any{}, "count": 0, "total": 0})
	case Status, HTML:
		instead, err := rule.answer()
		if err != nil || instead.After != nil && *instead.After {
			return false
		}
		s.instead(w, rule, instead)
	default:
		return false
	}
	return true
}

// rateLimit lets a number of requests through each second.
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

// claimSuccess answers a request to destroy with the words of a success.
func claimSuccess(w http.ResponseWriter, r *http.Request) bool {
	if params, ok := matchPath("/api/v1/sessions/{id}/done", r.URL.Path); ok {
		shutDown(w, params["id"])
		return true
	}
	if params, ok := matchPath("/api/v1/sessions/{id}", r.URL.Path); ok && r.Method == http.MethodDelete {
		destroyed(w, params["id"])
		return true
	}
	return false
}

// after does what a rule does after the effect. It reports whether it has answered.
func (s *Sandbox) after(w http.ResponseWriter, r *http.Request, rule Rule, full *reply) bool {
	switch rule.Fault {
	case DelayAfter:
		return s.clock.Sleep(s.life, rule.length(30*time.Second)) != nil
	case LoseAnswerAfter:
		cut(w)
	case Truncate:
		cutAfter(w, full, int(rule.amount(float64(len(full.body)/2))))
	case InvalidJSON:
		full.send(w, append(bytes.TrimSuffix(full.body, []byte("}")), `, "broken`...))
	case Status, StatusAfter, HTML:
		instead, err := rule.answer()
		if err != nil {
			return false
		}
		s.instead(w, rule, instead)
	case SlowDrip:
		s.drip(w, r, full, rule.length(30*time.Second))
	case NoKey:
		full.remove("ssh_private_key")
		return false
	case NoID:
		full.remove("id", "session_id")
		return false
	default:
		return false
	}
	return true
}

// instead answers with a status, or with a proxy's page.
func (s *Sandbox) instead(w http.ResponseWriter, rule Rule, a answer) {
	if value := s.retryAfter(a.RetryAfter); value != "" {
		w.Header().Set("Retry-After", value)
	}
	text := cmp.Or(a.Error, http.StatusText(a.Status), "sandbox fault")
	if rule.Fault == HTML {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(a.Status)
		_, _ = fmt.Fprintf(w, "<html>\r\n<head><title>%d %s</title></head>\r\n<body>\r\n<center><h1>%d %s</h1></center>\r\n"+
			"<hr><center>nginx/1.27.3</center>\r\n</body>\r\n</html>\r\n", a.Status, text, a.Status, text)
		return
	}
	writeError(w, refuse(a.Status, "%s", text))
}

// retryAfter makes a Retry-After header of what a rule says.
func (s *Sandbox) retryAfter(v any) string {
	switch v := v.(type) {
	case float64:
		return strconv.Itoa(int(v))
	case int:
		return strconv.Itoa(v)
	case string:
		word, rest, _ := strings.Cut(v, ":")
		switch word {
		case "date":
			d, err := time.ParseDuration(cmp.Or(rest, "2s"))
			if err == nil {
				return time.Now().Add(d).UTC().Format(http.TimeFormat)
			}
		case "nonsense":
			return "in a little while"
		case "day":
			return "86400"
		}
		return v
	default:
		return ""
	}
}

// drip sends the answer in pieces spread over d.
func (s *Sandbox) drip(w http.ResponseWriter, r *http.Request, full *reply, d time.Duration) {
	const pieces = 20
	full.header.Set("Content-Length", strconv.Itoa(len(full.body)))
	full.send(w, nil)
	flush := http.NewResponseController(w)
	size := len(full.body)/pieces + 1
	pause := d / time.Duration(len(full.body)/size+1)
	for sent := 0; sent < len(full.body); sent += size {
		_ = flush.Flush()
		if s.clock.Sleep(r.Context(), pause) != nil {
			return
		}
		if _, err := w.Write(full.body[sent:min(sent+size, len(full.body))]); err != nil {
			return
		}
	}
}

// remove takes members out of the answer, wherever they are.
func (a *reply) remove(names ...string) {
	var body any
	if json.Unmarshal(a.body, &body) != nil {
		return
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, name := range names {
				delete(v, name)
			}
			for _, member := range v {
				walk(member)
			}
		case []any:
			for _, member := range v {
				walk(member)
			}
		}
	}
	walk(body)
	if data, err := json.Marshal(body); err == nil {
		a.body = data
	}
}

// cut closes the client's connection without an answer.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// cutAfter closes it in the middle of the body, after n bytes of it.
func cutAfter(w http.ResponseWriter, full *reply, n int) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", full.status, http.StatusText(full.status))
	full.header.Set("Content-Length", strconv.Itoa(len(full.body)))
	_ = full.header.Write(&head) // to memory
	head.WriteString("\r\n")
	head.Write(full.body[:max(min(n, len(full.body)), 0)])
	_, _ = conn.Write(head.Bytes())
}
