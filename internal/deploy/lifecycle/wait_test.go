package lifecycle

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// alwaysRuns is a runtime whose server always runs.
type alwaysRuns struct{ deploy.Runtime }

func (alwaysRuns) State(context.Context, deploy.Ref) (deploy.Status, error) {
	return deploy.Status{State: deploy.Running}, nil
}

func (alwaysRuns) Follow(context.Context, deploy.Ref, int) (io.ReadCloser, error) {
	return nil, errors.ErrUnsupported
}

func (alwaysRuns) Log(context.Context, deploy.Ref, int) ([]string, error) { return nil, nil }

// An unexpected error ends a wait at once, and is not tried again until the timeout. A context's error is recognizable.
func TestUnexpectedAnswersAreNotTriedAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		proves bool
		want   string
	}{
		"another service on the port":  {http.StatusNotFound, false, "Server answers, but not as vLLM"},
		"a key that is refused":        {http.StatusUnauthorized, true, "Model did not answer"},
		"a redirection":                {http.StatusFound, true, "Model did not answer"},
		"an answer that isn't vLLM's":  {http.StatusTeapot, true, "Model did not answer"},
		"an engine that has failed":    {http.StatusInternalServerError, true, "Model did not answer"},
		"a model that isn't there yet": {http.StatusNotFound, true, "Model did not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				asked++
				w.WriteHeader(test.status)
			}))
			defer server.Close()
			l := newLaunch(t.Context(), nil, Request{Spec: vllm.Spec{Model: "m/m"}})
			l.runtime = alwaysRuns{}
			dialer := net.Dialer{}
			api := vllm.NewClient(transport(dialer.DialContext, nil), server.URL, "key")
			try := l.load
			if test.proves {
				try = l.complete
			}
			problem := try(t.Context(), deploy.Ref{}, api)
			if problem == nil || problem.Summary != test.want || asked > 2 {
				t.Errorf("asked %d times: %+v", asked, problem)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if problem := try(ended, deploy.Ref{}, api); problem == nil || !errors.Is(problem.Err, context.Canceled) {
				t.Errorf("a cancel is told as %+v", problem)
			}
		})
	}
}
