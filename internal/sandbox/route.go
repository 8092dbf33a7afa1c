package sandbox

import (
	"net/http"
	"regexp"
	"strings"
)

// handler answers one route. The {…} parts of the path are the request's path values.
// An error that it returns is answered in the service's form.
type handler func(w http.ResponseWriter, r *http.Request) error

// route is one route of the service or of the sandbox's control API.
type route struct {
	method, pattern string
	handle          handler
}

// matchPath matches a path against a pattern. A {…} segment matches any segment, a last
// segment "*" the rest of the path. It returns the values of the {…} segments.
func matchPath(pattern, path string) (map[string]string, bool) {
	if pattern == "*" {
		return nil, true
	}
	want, have := strings.Split(pattern, "/"), strings.Split(path, "/")
	params := map[string]string{}
	for i, segment := range want {
		switch {
		case segment == "*" && i == len(want)-1 && i < len(have):
			return params, true
		case i >= len(have):
			return nil, false
		case strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "}"):
			if have[i] == "" {
				return nil, false
			}
			params[segment[1:len(segment)-1]] = have[i]
		case segment != have[i]:
			return nil, false
		}
	}
	return params, len(want) == len(have)
}

// matchesRoute reports whether the route of a fault rule matches a request.
func matchesRoute(rule, method, path string) bool {
	wantMethod, wantPath, ok := strings.Cut(rule, " ")
	if !ok || wantMethod != "*" && wantMethod != method {
		return false
	}
	_, matches := matchPath(wantPath, path)
	return matches
}

// validRequestID matches a client's X-Request-ID that the service keeps.
var validRequestID = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,128}$`)

// find returns the handler of a request, nil where there is none, and gives the
// request its pattern and its path values. Unlike net/http's, the service's router
// answers 404 to a wrong method, and matches the decoded path.
func find(routes []route, r *http.Request) handler {
	for _, candidate := range routes {
		if candidate.method != r.Method {
			continue
		}
		if params, ok := matchPath(candidate.pattern, r.URL.Path); ok {
			r.Pattern = candidate.method + " " + candidate.pattern
			for name, value := range params {
				r.SetPathValue(name, value)
			}
			return candidate.handle
		}
	}
	return nil
}
