package vllmserver

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

const aloneUsage = `A stand-in for vLLM, for people who write clients of its API. It takes vLLM's arguments
and environment variables (VLLM_API_KEY, ...), and logs, fails and answers as a recorded
release does. It runs no model. Eight GPUs with 141 GB each are assumed.

    $ VLLM_API_KEY=secret %s vllm serve Qwen/Qwen2.5-7B-Instruct --port 8000
    $ curl -H 'Authorization: Bearer secret' http://127.0.0.1:8000/v1/models

If the model is a folder, its files are checked as vLLM checks them. Recorded releases:
%s. For any other release the nearest older recording is used.

Flags, which stand before "serve":
`

// Alone runs the stand-in without a machine, as a program. args are its flags, and then
// vLLM's arguments; program is its name in the help text. It returns the exit code.
func Alone(ctx context.Context, program string, args, env []string, stdout, stderr io.Writer) int {
	set := flag.NewFlagSet("vllm", flag.ContinueOnError)
	set.SetOutput(stderr)
	release := set.String("release", DefaultVersion, "behave as this `release` of vLLM")
	load := set.Duration("load", 2*time.Second, "load the model for this `duration`")
	failure := set.String("fail", "", "fail to start as the recording with this `name` did:\n"+Columns(facts.Failures()))
	set.Usage = func() {
		_, _ = fmt.Fprintf(stderr, aloneUsage, program, strings.Join(facts.Releases(), ", "))
		set.PrintDefaults()
	}
	switch err := set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage // package flag has printed why
	case set.NArg() == 0:
		set.Usage()
		return exitUsage
	}
	where := nowhere("H200", 8)
	where.VLLM = machinefs.VLLM{Load: max(*load, 1), Fail: *failure}
	data, err := json.Marshal(where)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, program+":", err)
		return exitFailure
	}
	return Main(ctx, set.Args(), append(slices.Clone(env), VersionEnv+"="+*release, FactsEnv+"="+string(data)), stdout, stderr)
}

// Columns is a help text's list of names, a few on each line.
func Columns(names []string) string {
	var lines []string
	for some := range slices.Chunk(names, 4) {
		lines = append(lines, strings.Join(some, ", "))
	}
	return strings.Join(lines, ",\n")
}
