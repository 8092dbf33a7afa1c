package vllmserver

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// defaultLoad is how long a start takes unless VLLM.Load is set.
const defaultLoad = 90 * time.Second

// line is a line of a log and its time: 0 is the beginning of a successful start, and 1 its
// end.
type line struct {
	text string
	at   float64
}

// logger writes vLLM's lines and the access log to standard output; uvicorn's lines,
// tracebacks and warnings to standard error.
type logger struct {
	mu    sync.Mutex
	out   io.Writer
	err   io.Writer
	quiet bool // VLLM_LOGGING_LEVEL above INFO
}

func newLog(stdout, stderr io.Writer, p *place) *logger {
	level := strings.ToUpper(p.env["VLLM_LOGGING_LEVEL"])
	return &logger{out: stdout, err: stderr, quiet: level == "WARNING" || level == "ERROR" || level == "CRITICAL"}
}

func (l *logger) write(w io.Writer, lines ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = io.WriteString(w, strings.Join(lines, "\n")+"\n") // a closed pipe doesn't matter
}

func (l *logger) plain(lines ...string)      { l.write(l.out, lines...) }
func (l *logger) plainError(lines ...string) { l.write(l.err, lines...) }

var (
	stamped = regexp.MustCompile(`\b(DEBUG|INFO|WARNING|ERROR|CRITICAL) (\d\d-\d\d \d\d:\d\d:\d\d) `)
	process = regexp.MustCompile(`\(([A-Za-z][\w-]*) pid=(\d+)\)`)
	warned  = regexp.MustCompile(`^\[W\d{4} [\d:.]+`) // PyTorch's own
	access  = regexp.MustCompile(`INFO:     \S+:\d+ - "`)
)

// print writes a recorded line with this run's figures and the current time.
func (r *run) print(l line) {
	text := r.measured(l.text)
	m := stamped.FindStringSubmatchIndex(text)
	if m == nil {
		r.log.plainError(warned.ReplaceAllLiteralString(text, time.Now().UTC().Format("[W0102 15:04:05.000000000")))
		return
	}
	if r.log.quiet && text[m[2]:m[3]] == "INFO" {
		return
	}
	r.log.plain(text[:m[4]] + time.Now().UTC().Format("01-02 15:04:05") + text[m[5]:])
}

// access logs one request.
func (r *run) access(method, uri string, status int, phrase string) {
	r.log.plain(fmt.Sprintf("%sINFO:     127.0.0.1:%d - \"%s %s HTTP/1.1\" %d %s", r.web, 50000, method, uri, status, phrase))
}

// read returns a recording's lines, with this run's pids and names.
func (r *run) read(rec facts.Run) []line {
	text := strings.TrimSuffix(rec.Log, "\n")
	pids := map[string]string{}
	for _, m := range process.FindAllStringSubmatch(text, -1) {
		pids[m[2]] = strconv.Itoa(r.place.pid + map[string]int{"APIServer": 0, "EngineCore": 111}[m[1]])
		if m[1] != "APIServer" && m[1] != "EngineCore" {
			pids[m[2]] = strconv.Itoa(r.place.pid + firstWorker)
		}
	}
	text = regexp.MustCompile(`\b\d{4,6}\b`).ReplaceAllStringFunc(text, func(number string) string {
		if pid, ok := pids[number]; ok {
			return pid
		}
		return number
	})
	pairs := []string{"CPU KV cache size", "GPU KV cache size", "v" + rec.Release, "v" + r.place.version, "version " + rec.Release, "version " + r.place.version}
	if len(rec.Argv) > 1 {
		for _, form := range []string{"'%s'", "model   %s\n", "load model %s..."} {
			quoted := fmt.Sprintf(form, r.opts.model())
			if form[0] == '\'' {
				quoted = pyRepr(r.opts.model())
			}
			pairs = append(pairs, fmt.Sprintf(form, rec.Argv[1]), quoted)
		}
	}
	text = strings.NewReplacer(pairs...).Replace(text)
	const ranked = "is assigned as" // from here on a worker knows its rank
	if before, after, found := strings.Cut(text, ranked); found {
		text = before + ranked + strings.ReplaceAll(after, "(Worker pid=", "("+r.opts.workers()[0]+" pid=")
	}
	return timed(strings.Split(text, "\n"), rec.Seconds, r.startSeconds())
}

// others are the lines of the other workers beside one of the first worker. All log the same until they know their
// ranks, and then only that they load the model (runs/two-workers).
func (r *run) others(l line) []line {
	var lines []line
	workers := r.opts.workers()
	for rank, name := range workers[min(1, len(workers)):] {
		m := process.FindStringSubmatch(l.text)
		switch {
		case len(m) == 0, strings.Contains(l.text, "is assigned as"):
		case m[1] == "Worker", m[1] == workers[0] && strings.Contains(l.text, "Starting to load model"):
			if m[1] == "Worker" {
				name = m[1]
			}
			prefix := fmt.Sprintf("(%s pid=%d)", name, r.place.pid+firstWorker+rank+1)
			ranks := fmt.Sprintf("rank=%d local_rank=%[1]d", rank+1)
			lines = append(lines, line{strings.NewReplacer(m[0], prefix, "rank=0 local_rank=0", ranks).Replace(l.text), l.at})
		}
	}
	return lines
}

// firstWorker is the first worker's pid, relative to the server's.
const firstWorker = 222

// timed gives each line the time of its stamp, or that of the line before if it has none.
// The last stamp before the end of the start is at seconds.
func timed(texts []string, seconds, whole float64) []line {
	stamps := make([]float64, len(texts))
	last, ready := 0.0, false
	for i, text := range texts {
		if m := stamped.FindStringSubmatch(text); m != nil {
			if at, err := time.Parse("01-02 15:04:05", m[2]); err == nil {
				stamps[i] = float64(at.Unix())
				if !ready {
					last = stamps[i]
				}
			}
		}
		ready = ready || strings.Contains(text, facts.Ready)
	}
	lines := make([]line, 0, len(texts))
	at := 0.0
	for i, text := range texts {
		if stamps[i] != 0 {
			at = max(at, seconds-(last-stamps[i]))
		}
		lines = append(lines, line{text, at / whole})
	}
	return lines
}

func (r *run) startSeconds() float64 { return facts.Start(r.place.version, r.eager()).Seconds }
func (r *run) eager() bool           { return r.opts.on("enforce-eager") }

// script is the recorded start until it is ready, with the lines that only GPUs print.
func (r *run) script() []line {
	var lines []line
	added := map[int]bool{}
	add := func(l line, beside func(i int) string) {
		for i, extra := range unrecorded().Start {
			if words := beside(i); words != "" && strings.Contains(l.text, words) && !added[i] && (!extra.Compiled || !r.eager()) {
				added[i] = true
				lines = append(lines, line{extra.Line, l.at})
			}
		}
	}
	for _, l := range r.read(facts.Start(r.place.version, r.eager())) {
		if before, _, ready := strings.Cut(l.text, "INFO:     "+facts.Ready); ready {
			r.web = before
			break
		}
		if strings.Contains(l.text, "Explicitly set (") { // only a CPU logs this
			continue
		}
		add(l, func(i int) string { return unrecorded().Start[i].Before })
		lines = append(append(lines, l), r.others(l)...)
		add(l, func(i int) string { return unrecorded().Start[i].After })
	}
	return lines
}

// ending are a recording's lines after it was ready, without those of requests.
func (r *run) ending(rec facts.Run) []line {
	var lines []line
	ready := false
	for _, l := range r.read(rec) {
		if ready && !access.MatchString(l.text) {
			lines = append(lines, l)
		}
		ready = ready || strings.Contains(l.text, facts.Ready)
	}
	return lines
}

// play prints lines at their times, and takes the steps between them.
func (r *run) play(ctx context.Context, lines []line, steps []step) error {
	f := r.place.latest()
	load := cmp.Or(f.VLLM.Load, defaultLoad)
	at, previous := 0.0, ""
	for _, l := range lines {
		if l.at > at {
			if err := r.place.sleep(ctx, f.Scale(time.Duration(float64(load)*(l.at-at)))); err != nil {
				return err
			}
			at = l.at
		}
		for len(steps) > 0 && (strings.Contains(l.text, steps[0].before) || strings.Contains(previous, steps[0].after)) {
			step := steps[0]
			steps = steps[1:]
			if err := r.demanded(step.stage); err != nil {
				return err
			}
			if err := step.check(); err != nil {
				return err
			}
		}
		r.print(l)
		previous = l.text
		if strings.Contains(l.text, "Warming up ") {
			r.place.warming.Store(!strings.HasSuffix(l.text, "done."))
		}
	}
	return nil
}

// measure is a figure or a name in a recorded line that differs between runs.
type measure struct {
	pattern *regexp.Regexp // the match is replaced, except for its group
	value   func(r *run) string
}

func measureOf(pattern string, value func(r *run) string) measure {
	return measure{regexp.MustCompile(pattern), value}
}

// names are known from the arguments, measures once the model is known.
var names = []measure{
	measureOf(`(non-default args: )\{.*\}`, func(r *run) string { return r.opts.String() }),
	measureOf(`(Starting vLLM server on )\S+`, func(r *run) string { return r.url() }),
}

var measures = []measure{
	measureOf(`(Resolved architecture: )\w+`, func(r *run) string { return r.plan.shape.Architecture }),
	measureOf(`(Using max model len )\d+`, func(r *run) string { return strconv.Itoa(r.plan.maxLen) }),
	measureOf(`(max_seq_len=)\d+`, func(r *run) string { return strconv.Itoa(r.plan.maxLen) }),
	measureOf(`( quantization=)\w+`, func(r *run) string { return cmp.Or(r.plan.quant, "None") }),
	measureOf(`(tensor_parallel_size=)\d+`, func(r *run) string { return strconv.Itoa(r.plan.tp) }),
	measureOf(`(pipeline_parallel_size=)\d+`, func(r *run) string { return strconv.Itoa(r.plan.pp) }),
	measureOf(`(served_model_name=)[^,]+`, func(r *run) string { return r.opts.servedNames()[0] }),
	measureOf(`(Checkpoint size: )[\d.]+`, func(r *run) string { return fmt.Sprintf("%.2f", r.plan.weightsGiB) }),
	measureOf(`(Loading weights took )[\d.]+`, func(r *run) string { return r.seconds(0.15) }),
	measureOf(`(init engine .* took )[\d.]+`, func(r *run) string { return r.seconds(0.3) }),
	measureOf(`(KV cache size: )[\d,]+`, func(r *run) string { return grouped(r.cacheTokens()) }),
	measureOf(`(Maximum concurrency for )[\d,]+`, func(r *run) string { return grouped(r.plan.maxLen) }),
	measureOf(`(per request: )[\d.]+`, func(r *run) string {
		return fmt.Sprintf("%.2f", float64(r.cacheTokens())/float64(r.plan.maxLen))
	}),
	measureOf(`(world_size=)\d+`, func(r *run) string { return strconv.Itoa(r.plan.tp * r.plan.pp) }),
	measureOf(`(in world size )\d+`, func(r *run) string { return strconv.Itoa(r.plan.tp * r.plan.pp) }),
	measureOf(`()\{engine\}`, (*run).loader),
	measureOf(`()\{stamp\}`, func(*run) string { return "01-01 00:00:00" }),
	measureOf(`()\{model\}`, func(r *run) string { return r.plan.model }),
	measureOf(`()\{weights\}`, func(r *run) string { return fmt.Sprintf("%.2f", r.plan.weightsGiB) }),
	measureOf(`()\{cache\}`, func(r *run) string { return fmt.Sprintf("%.2f", r.plan.cacheGiB) }),
	measureOf(`()\{download\}`, func(r *run) string { return r.seconds(0.35) }),
	measureOf(`()\{loading\}`, func(r *run) string { return r.seconds(0.5) }),
	measureOf(`()\{compile\}`, func(r *run) string { return r.seconds(0.2) }),
	measureOf(`()\{graphs\}`, func(*run) string { return "4" }),
}

// measured puts this run's figures into a line, as far as they are known.
func (r *run) measured(text string) string {
	known := names
	if r.plan.model != "" {
		known = append(slices.Clone(names), measures...)
	}
	for _, m := range known {
		if loc := m.pattern.FindStringSubmatchIndex(text); loc != nil {
			text = text[:loc[3]] + m.value(r) + text[loc[1]:]
		}
	}
	return text
}

// loader is the process that loads the model: the engine's with one GPU, else the first worker.
func (r *run) loader() string {
	if workers := r.opts.workers(); len(workers) > 1 {
		return workers[0] + " pid=" + strconv.Itoa(r.place.pid+firstWorker)
	}
	return "EngineCore pid=" + strconv.Itoa(r.place.pid+111)
}

// seconds is a share of the start's time.
func (r *run) seconds(share float64) string {
	return fmt.Sprintf("%.2f", cmp.Or(r.place.latest().VLLM.Load, defaultLoad).Seconds()*share)
}

// grouped writes a number as Python's {:,} does.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
