package vllmserver

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// logger writes as vLLM's processes do: its own lines and the access log on
// standard output, uvicorn's and tracebacks on standard error, each line with
// the process it comes from.
type logger struct {
	mu     sync.Mutex
	out    io.Writer
	err    io.Writer
	server string // "(APIServer pid=1)"
	engine string // "(EngineCore_DP0 pid=112)"
	quiet  bool   // VLLM_LOGGING_LEVEL above INFO
}

func newLog(stdout, stderr io.Writer, p *place) *logger {
	level := strings.ToUpper(p.env["VLLM_LOGGING_LEVEL"])
	return &logger{
		out:    stdout,
		err:    stderr,
		server: fmt.Sprintf("(APIServer pid=%d)", p.pid),
		engine: fmt.Sprintf("(EngineCore_DP0 pid=%d)", p.pid+111),
		quiet:  level == "WARNING" || level == "ERROR" || level == "CRITICAL",
	}
}

func (l *logger) write(w io.Writer, lines ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = io.WriteString(w, strings.Join(lines, "\n")+"\n") // a closed pipe is the reader's affair
}

func (l *logger) plain(lines ...string)      { l.write(l.out, lines...) }
func (l *logger) plainError(lines ...string) { l.write(l.err, lines...) }

func stamp(level, where string) string {
	return fmt.Sprintf("%s %s [%s]", level, time.Now().UTC().Format("01-02 15:04:05"), where)
}

// api logs a line of the API server's process.
func (l *logger) api(where, format string, a ...any) {
	if !l.quiet {
		l.write(l.out, l.server+" "+stamp("INFO", where)+" "+fmt.Sprintf(format, a...))
	}
}

// core logs a line of the engine's process.
func (l *logger) core(where, format string, a ...any) {
	if !l.quiet {
		l.write(l.out, l.engine+" "+stamp("INFO", where)+" "+fmt.Sprintf(format, a...))
	}
}

func (l *logger) apiWarning(where, format string, a ...any) {
	l.write(l.out, l.server+" "+stamp("WARNING", where)+" "+fmt.Sprintf(format, a...))
}

// uvicorn logs a line of the web server.
func (l *logger) uvicorn(format string, a ...any) {
	l.write(l.err, l.server+" INFO:     "+fmt.Sprintf(format, a...))
}

// access logs one request.
func (l *logger) access(method, uri string, status int, phrase string) {
	l.write(l.out, fmt.Sprintf("%s INFO:     127.0.0.1:%d - \"%s %s HTTP/1.1\" %d %s", l.server, 50000, method, uri, status, phrase))
}

// coreFailed logs how the engine's process says that it could not start: twice,
// once through the logger and once as the end of the process.
func (l *logger) coreFailed(reason ...string) {
	trace := append([]string{
		"Traceback (most recent call last):",
		`  File "/usr/local/lib/python3.12/dist-packages/vllm/v1/engine/core.py", line 857, in run_engine_core`,
		"    engine_core = EngineCoreProc(*args, **kwargs)",
		`  File "/usr/local/lib/python3.12/dist-packages/vllm/v1/engine/core.py", line 637, in __init__`,
		"    super().__init__(",
		`  File "/usr/local/lib/python3.12/dist-packages/vllm/v1/executor/abstract.py", line 101, in __init__`,
		"    self._init_executor()",
	}, lines(reason)...)
	prefix := l.engine + " " + stamp("ERROR", "core.py:866") + " "
	logged := make([]string, 0, len(trace)+1)
	for _, line := range append([]string{"EngineCore failed to start."}, trace...) {
		logged = append(logged, prefix+line)
	}
	l.write(l.out, logged...)
	dying := []string{l.engine + " Process EngineCore_DP0:"}
	for _, line := range trace {
		dying = append(dying, l.engine+" "+line)
	}
	l.write(l.err, dying...)
	l.traceback("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}")
}

// traceback ends the API server's process with an exception.
func (l *logger) traceback(reason ...string) {
	trace := append([]string{
		"Traceback (most recent call last):",
		`  File "/usr/local/bin/vllm", line 10, in <module>`,
		"    sys.exit(main())",
		`  File "/usr/local/lib/python3.12/dist-packages/vllm/entrypoints/openai/api_server.py", line 1984, in run_server`,
		"    async with build_async_engine_client(",
	}, lines(reason)...)
	for i := range trace {
		trace[i] = l.server + " " + trace[i]
	}
	l.write(l.err, trace...)
}

// lines splits messages of several lines, each of which gets its own prefix.
func lines(messages []string) []string { return strings.Split(strings.Join(messages, "\n"), "\n") }
