package shopper

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzDecodeAnswers gives every method any answer at all: what comes back is a
// usable value or an error, never both, and no panic.
func FuzzDecodeAnswers(f *testing.F) {
	for _, r := range readRecordings(f) {
		f.Add(r.Response.Status, r.body())
	}
	for _, body := range []string{createdText, createdText[:60], refusalText, "", "null", "[]", `{"session":{}}`, `{"session":["session",{"id":"x"}]}`} {
		f.Add(201, body)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 {
			status = 200 + (status&0x7fffffff)%400
		}
		network := &script{answer: func(int, *http.Request) (*http.Response, error) { return response(status, body), nil }}
		client := newClient(t, fakeURL, network.use, withoutRetries)
		ctx := t.Context()

		created, err := client.CreateSession(ctx, rental())
		switch {
		case err == nil && (ValidateID(created.Session.ID) != nil || created.PrivateKey == ""):
			t.Errorf("an unusable rental is no success: %+v", created)
		case err == nil && created.Session.CreatedAt.Location() != time.UTC:
			t.Errorf("%s is not in UTC", created.Session.CreatedAt)
		case err != nil && status < 300 && !IsAmbiguous(err):
			t.Errorf("an accepted request may have taken effect: %v", err)
		}
		checkFuzzed(t, err)

		session, err := client.Session(ctx, "s1")
		if err == nil && (session.ID != "s1" || session.Status == "") {
			t.Errorf("a session was made up: %+v", session)
		}
		checkFuzzed(t, err)

		sessions, err := client.Sessions(ctx, SessionFilter{})
		for _, session := range sessions {
			if session.ID == "" || session.Status == "" {
				t.Errorf("a session was made up: %+v", session)
			}
		}
		checkFuzzed(t, err)

		end, err := client.Extend(ctx, "s1", 1)
		if (err == nil) == end.IsZero() {
			t.Errorf("an end of %s with %v", end, err)
		}
		checkFuzzed(t, err)

		for _, read := range []func() error{
			func() error { _, err := client.Offers(ctx, ""); return err },
			func() error { _, err := client.Offer(ctx, "vastai-101"); return err },
			func() error { _, err := client.Health(ctx); return err },
			func() error { _, err := client.Ready(ctx); return err },
			func() error { _, err := client.Diagnostics(ctx, "s1"); return err },
			func() error { _, err := client.SessionCost(ctx, "s1"); return err },
			func() error { _, err := client.CostSummary(ctx); return err },
			func() error { _, err := client.Templates(ctx); return err },
			func() error { _, err := client.CompatibleTemplates(ctx, "vastai-101"); return err },
			func() error { _, err := client.OfferHealth(ctx); return err },
			func() error { return client.Delete(ctx, "s1") },
		} {
			checkFuzzed(t, read())
		}
	})
}

func checkFuzzed(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Errorf("an untyped error: %v", err)
	}
	text := err.Error()
	if len(text) > 10_000 || !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\x1b\r") {
		t.Errorf("an error unfit to be shown: %q", text)
	}
}
