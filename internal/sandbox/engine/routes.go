package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	oldestMinor = 40 // of the API, 1.40
	maxBody     = 4 << 20
)

// apiError is an error that the engine answers with a status.
type apiError struct {
	status  int
	message string
}

func (e *apiError) Error() string { return e.message }

func refusal(status int, format string, a ...any) error {
	return &apiError{status, fmt.Sprintf(format, a...)}
}

// route answers a request. An error that it returns is answered in the engine's form.
type route func(w http.ResponseWriter, req *http.Request) error

func (e *Engine) mux() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range e.table() {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, req *http.Request) {
			req.Body = http.MaxBytesReader(w, req.Body, maxBody)
			if err := handle(w, req); err != nil {
				failed(w, err)
			}
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		self := e.self()
		for name, value := range self.Headers {
			w.Header().Set(name, value)
		}
		if err := stripVersion(req, self.API); err != nil {
			failed(w, err)
			return
		}
		if _, pattern := mux.Handler(req); pattern == "" {
			writeError(w, http.StatusNotFound, "page not found")
			return
		}
		mux.ServeHTTP(w, req)
	})
}

// table returns the routes of the stand-in.
func (e *Engine) table() map[string]route {
	return map[string]route{
		"GET /_ping": e.ping, "HEAD /_ping": e.ping, "GET /version": e.version, "GET /info": e.info,
		"POST /images/create": e.pull, "GET /images/json": e.listImages, "GET /images/{name...}": e.inspectImage,
		"POST /containers/create": e.create, "GET /containers/json": e.list,
		"GET /containers/{id}/json": e.of(e.inspect), "GET /containers/{id}/logs": e.of(e.logs),
		"POST /containers/{id}/start": e.turn(e.start), "POST /containers/{id}/stop": e.turn(e.stop), "POST /containers/{id}/restart": e.turn(e.restart),
		"POST /containers/{id}/kill": e.of(e.killRoute), "POST /containers/{id}/wait": e.of(e.wait), "POST /containers/{id}/update": e.of(e.update),
		"POST /containers/{id}/rename": e.turn(e.rename),
		"PUT /containers/{id}/archive": e.turn(e.putArchive), "DELETE /containers/{id}": e.turn(e.remove),
		"GET /networks/{name}": e.inspectNetwork, "GET /volumes": e.listVolumes,
	}
}

var versionPrefix = regexp.MustCompile(`^/v(\d+)\.(\d+)(/.*)$`)

// stripVersion removes the API version from a request's path, and checks it.
func stripVersion(req *http.Request, newest string) error {
	m := versionPrefix.FindStringSubmatch(req.URL.Path)
	if m == nil {
		return nil
	}
	asked := m[1] + "." + m[2]
	minor, err := strconv.Atoi(m[2])
	limit, _ := strconv.Atoi(strings.TrimPrefix(newest, "1."))
	switch {
	case m[1] != "1" || err != nil || minor > limit:
		return refusal(http.StatusBadRequest, "client version %s is too new. Maximum supported API version is %s", asked, newest)
	case minor < oldestMinor:
		return refusal(http.StatusBadRequest, "client version %s is too old. Minimum supported API version is 1.%d, please upgrade your client to a newer version", asked, oldestMinor)
	}
	req.URL.Path, req.URL.RawPath = m[3], ""
	return nil
}

func failed(w http.ResponseWriter, err error) {
	var known *apiError
	if errors.As(err, &known) {
		if known.status == http.StatusNotModified {
			w.WriteHeader(known.status)
			return
		}
		writeError(w, known.status, known.message)
		return
	}
	writeError(w, http.StatusInternalServerError, err.Error())
}

func writeError(w http.ResponseWriter, status int, message string) {
	_ = writeJSON(w, status, map[string]string{"message": message})
}

func writeJSON(w http.ResponseWriter, status int, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
	return nil
}

func readJSON(req *http.Request, into any) error {
	if err := json.NewDecoder(req.Body).Decode(into); err != nil {
		return refusal(http.StatusBadRequest, "invalid JSON: %v", err)
	}
	return nil
}

func flag(req *http.Request, name string) bool {
	switch strings.ToLower(req.URL.Query().Get(name)) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// filters are the filters of a query: terms and their accepted values.
type filters map[string][]string

// readFilters reads the query's filters, a map of maps.
func readFilters(req *http.Request) (filters, error) {
	f := filters{}
	text := req.URL.Query().Get("filters")
	if text == "" {
		return f, nil
	}
	var terms map[string]map[string]bool
	if err := json.Unmarshal([]byte(text), &terms); err != nil {
		return nil, refusal(http.StatusBadRequest, "invalid filter: %v", err)
	}
	for term, values := range terms {
		f[term] = slices.Collect(maps.Keys(values))
	}
	return f, nil
}

// matchLabels reports whether labels satisfy every filter "name" or "name=value".
func (f filters) matchLabels(labels map[string]string) bool {
	for _, want := range f["label"] {
		name, value, hasValue := strings.Cut(want, "=")
		have, ok := labels[name]
		if !ok || hasValue && have != value {
			return false
		}
	}
	return true
}

// any reports whether one of a term's values passes, or the term was not given.
func (f filters) any(term string, pass func(value string) bool) bool {
	values, given := f[term]
	return !given || slices.ContainsFunc(values, pass)
}
