package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// asProgram makes this test's executable the program.
const asProgram = "SHOPPER_SANDBOX_TEST_PROGRAM"

func TestMain(m *testing.M) {
	sandbox.Main()
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	code := m.Run()
	if err := sandbox.Finish(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// program is a running sandbox.
type program struct {
	cmd   *exec.Cmd
	url   string
	temp  string
	stdin io.WriteCloser
	lines *bufio.Reader

	log syncBuffer
}

// syncBuffer is a buffer that may be read while a process writes to it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// shortTemp is a directory with a name that leaves room for unix sockets.
func shortTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sbx")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func start(t *testing.T, temp string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{temp: temp}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel) // kills what a failed test left
	p.cmd = exec.CommandContext(ctx, self, append([]string{"-listen", "127.0.0.1:0"}, args...)...)
	p.cmd.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+temp)
	p.cmd.Stderr = &p.log
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewReader(stdout)
	line, err := p.lines.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "http://127.0.0.1:") {
		t.Fatalf("first line %q, %v\n%s", line, err, p.log.String())
	}
	p.url = strings.TrimSuffix(line, "\n")
	return p
}

// end waits for the program and returns the exit code, having checked that it
// said nothing more on standard output.
func (p *program) end(t *testing.T) int {
	t.Helper()
	rest, err := io.ReadAll(p.lines)
	if err != nil || len(rest) > 0 {
		t.Errorf("more on standard output: %q, %v", rest, err)
	}
	err = p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *program) rent(t *testing.T) string {
	t.Helper()
	const order = `{"consumer_id":"c","offer_id":"vastai-2201873","workload_type":"llm_vllm","reservation_hours":1}`
	resp, err := http.Post(p.url+"/api/v1/sessions", "application/json", strings.NewReader(order))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var made struct{ Session struct{ ID string } }
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || made.Session.ID == "" {
		t.Fatalf("%d, %v\n%s", resp.StatusCode, err, p.log.String())
	}
	return made.Session.ID
}

func left(t *testing.T, temp string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(temp, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestItEndsCleanlyOnASignal(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			p := start(t, shortTemp(t))
			p.rent(t)
			if len(left(t, p.temp)) == 0 {
				t.Error("the machines are somewhere else")
			}
			if err := p.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if code := p.end(t); code != 0 {
				t.Errorf("exit code %d\n%s", code, p.log.String())
			}
			if names := left(t, p.temp); len(names) != 0 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
}

func TestItEndsWithItsStandardInput(t *testing.T) {
	t.Parallel()
	p := start(t, shortTemp(t), "-until-stdin-closes", "-log", "off")
	p.rent(t)
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 0 || p.log.String() != "" {
		t.Errorf("exit code %d\n%s", code, p.log.String())
	}
	if names := left(t, p.temp); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestTheNextOneSweepsUpAfterOneThatWasKilled(t *testing.T) {
	t.Parallel()
	temp := shortTemp(t)
	killed := start(t, temp)
	killed.rent(t)
	if err := killed.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.end(t)
	next := start(t, temp)
	theirs := fmt.Sprintf("%s/shopper-sandbox-%d-", temp, killed.cmd.Process.Pid)
	if names := left(t, temp); slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, theirs) }) {
		t.Errorf("after the next start: %v", names)
	}
	if err := next.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	next.end(t)
}

func TestItTakesFaultsOffersAndSeed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	offers, faults := filepath.Join(dir, "offers.json"), filepath.Join(dir, "faults.json")
	for path, text := range map[string]string{
		offers: `[{"id":"vastai-2201873","gpu_type":"RTX 4090","price_per_hour":0.5}]`,
		faults: `[{"route":"POST /api/v1/sessions","fault":"status","value":503}]`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, shortTemp(t), "-offers", offers, "-faults", faults, "-seed", "7", "-speed", "600", "-templates", "-moving", "-hard-max-hours", "24", "-reconciler")
	for path, want := range map[string]string{
		"/api/v1/inventory": `"total":1`, "/sandbox/faults": `"status"`, "/sandbox/clock": `"seed":7`, "/api/v1/templates": `"vLLM"`,
	} {
		if body := get(t, p.url+path); !strings.Contains(body, want) {
			t.Errorf("%s: %s", path, body)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestItIsTwoServicesWithOneLedger(t *testing.T) {
	t.Parallel()
	p := start(t, shortTemp(t))
	id := p.rent(t)
	resp, err := http.Post(p.url+"/sandbox/services", "application/json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var other struct{ URL string }
	if err := json.NewDecoder(resp.Body).Decode(&other); err != nil || !strings.HasPrefix(other.URL, "http://127.0.0.1:") {
		t.Fatalf("%q, %v", other.URL, err)
	}
	if body := get(t, other.URL+"/api/v1/sessions/"+id); !strings.Contains(body, "record not found") {
		t.Errorf("the other knows the session: %s", body)
	}
	if body := get(t, other.URL+"/sandbox/ledger?format=text"); !strings.HasPrefix(body, "1 billing now") || !strings.Contains(body, id) {
		t.Errorf("the other's ledger: %s", body)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.log.String())
	}
}

func TestRandomFaultsSayTheirSeed(t *testing.T) {
	t.Parallel()
	p := start(t, shortTemp(t), "-random-faults", "9")
	if body := get(t, p.url+"/sandbox/faults"); strings.Count(body, `"fault"`) != 9 {
		t.Errorf("%s", body)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.end(t)
	if !strings.Contains(p.log.String(), "-random-faults 9 -seed ") {
		t.Errorf("%s", p.log.String())
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestWrongFlags(t *testing.T) {
	t.Parallel()
	busy := start(t, shortTemp(t))
	for _, test := range []struct {
		args string
		code int
		says string
	}{
		{"-help", 0, "/sandbox/ledger"},
		{"-nosuch", 2, "flag provided but not defined"},
		{"extra", 2, `unexpected argument "extra"`},
		{"-speed 0", 2, "-speed must be above 0"},
		{"-hard-max-hours 0", 2, "-hard-max-hours must be above 0"},
		{"-random-faults 1 -faults f", 2, "exclude each other"},
		{"-log loud", 1, "-log"},
		{"-offers /nonexistent -listen 127.0.0.1:0", 1, "reading the offers"},
		{"-faults /nonexistent -listen 127.0.0.1:0", 1, "reading the faults"},
		{"-listen " + strings.TrimPrefix(busy.url, "http://"), 1, "address already in use"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(strings.Fields(test.args), strings.NewReader(""), &stdout, &stderr); code != test.code || stdout.Len() > 0 || !strings.Contains(stderr.String(), test.says) {
			t.Errorf("%s: exit code %d\n%s%s", test.args, code, stdout.String(), stderr.String())
		}
	}
	if err := busy.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	busy.end(t)
}
