package lifecycle

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// clock is a machine whose clock shows a time.
type clock struct {
	deploy.Machine

	shows string
}

func (c clock) Run(context.Context, host.Command) (host.Result, error) {
	return host.Result{Stdout: c.shows + "\n"}, nil
}

func TestLogSince(t *testing.T) {
	t.Parallel()
	log := []string{
		"(APIServer pid=7) INFO 12-31 23:50:00 [api_server.py:1] begins",
		"INFO:     127.0.0.1:4 - \"GET /health HTTP/1.1\" 200 OK",
		"(EngineCore pid=9) ERROR 12-31 23:59:30 [core.py:2] fails",
		"Traceback (most recent call last):",
	}
	for _, test := range []struct {
		shows string
		age   time.Duration
		want  []string
	}{
		{"12-31 23:59:59", time.Hour, log},
		{"12-31 23:59:59", time.Minute, log[2:]},
		{"12-31 23:59:59", time.Second, nil},
		{"01-01 00:00:20", time.Minute, log[2:]}, // of last year
	} {
		got, err := LogSince(t.Context(), clock{shows: test.shows}, deploy.Ref{Runtime: deploy.Process}, log, test.age)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("at %s, %s: %q, %v", test.shows, test.age, got, err)
		}
	}
	if _, err := LogSince(t.Context(), clock{shows: "date: not found"}, deploy.Ref{}, log, time.Hour); err == nil {
		t.Error("no error without a clock")
	}
}
