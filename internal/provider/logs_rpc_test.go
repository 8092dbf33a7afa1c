package provider_test

import (
	"strings"
	"testing"
)

// A server's log is read in part, without its secrets; an unreachable machine is a value.
func TestLogs(t *testing.T) {
	t.Parallel()
	_, c, session := staged(t)
	const token = "hf_plantedTokenAbcdefgh1234567890"
	server := c.create(deploymentType, onSession(t, session, values{"hf_token": token, "args": []any{"--override-generation-config", `{"api_key":"planted"}`}}))
	read := func(more values) []string {
		t.Helper()
		got, diags := c.readData(logsType, with(values{"ssh": login(t, session), "server": get(t, server.state, "server")}, more))
		expect(t, diags)
		var lines []string
		for _, line := range elements(t, got, "log") {
			var text string
			if err := line.As(&text); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, text)
		}
		return lines
	}
	all := read(nil)
	if text := strings.Join(all, "\n"); !strings.Contains(text, "Application startup complete") || strings.Contains(text, token) ||
		strings.Contains(text, "planted") {
		t.Errorf("the log is:\n%s", text)
	}
	if got := read(values{"lines": 1}); len(got) != 1 || got[0] != all[len(all)-1] {
		t.Errorf("the last line is %q", got)
	}
	if got := read(values{"filter": "startup complete", "since": "1h"}); len(got) != 1 {
		t.Errorf("filtered: %q", got)
	}
	if got := read(values{"filter": "^nothing like it$"}); len(got) != 0 {
		t.Errorf("filtered: %q", got)
	}
	nowhere := with(login(t, session), values{"host": "127.0.0.1", "port": 1})
	got, diags := c.readData(logsType, values{"ssh": nowhere, "server": get(t, server.state, "server")})
	expect(t, diags)
	if text(t, got, "problem") != "unreachable" || text(t, got, "message") == "" {
		t.Errorf("nowhere: %s", got)
	}
	expect(t, c.validateData(logsType, values{"ssh": nowhere, "server": get(t, server.state, "server"), "filter": "("}), "error parsing regexp")
	tidy(t, c, session)
}
