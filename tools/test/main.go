// Command test runs all tests: every package with the race detector, the official OpenAI client's in its separate module, then
// the acceptance and end-to-end tests (TestAcc…, TestE2E…) once on each Terraform and OpenTofu found, and the tests of what only
// a new Terraform has (TestTerraform…) on one that has it. make builds what PATH lacks. Run it from the repository's root.
//
// Tests run with an empty HOME and TMPDIR. Files left in them and processes left running are failures, and so is a skipped test
// whose message doesn't start with "SKIPPED: ".
//
// Each failure is named on standard error as soon as it is seen. At the end all of them are printed with their output, then the
// slowest tests, what ran on what and why tests were skipped, and the counts. An interrupted run ends the tests, and prints the
// same about those that had ended.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

// These select the tests that need a Terraform or OpenTofu, and those of actions and queries, which only a new Terraform has.
const (
	perCLI      = "^Test(Acc|E2E)"
	onTerraform = "^TestTerraform"
)

// everything is all packages of a module.
var everything = []string{"./..."}

// cliTests matches all of these in a file.
var cliTests = regexp.MustCompile(`(?m)^func Test(Acc|E2E|Terraform)`)

func main() {
	tofu := flag.String("tofu", ".build/bin/tofu", "the `file` that make builds an OpenTofu as, unless PATH has one; \"\" for none")
	terraform := flag.String("terraform", ".build/bin/terraform", "the `file` that make builds a new Terraform as, unless PATH has one; \"\" for none")
	acceptance := flag.Bool("acceptance", false, "run only the acceptance and end-to-end tests, on the Terraform and OpenTofu on PATH")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./tools/test [-acceptance] [-tofu FILE] [-terraform FILE] [PACKAGE …]")
		flag.PrintDefaults()
	}
	flag.Parse()
	patterns := flag.Args()
	if len(patterns) == 0 {
		patterns = everything
	}
	if *acceptance {
		*tofu, *terraform = "", ""
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := run(ctx, *acceptance, *tofu, *terraform, patterns)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run reports whether all tests passed; an error means that they could not be run.
func run(ctx context.Context, acceptance bool, tofu, terraform string, patterns []string) (bool, error) {
	programs, newest, err := find(ctx, tofu, terraform)
	if err != nil {
		return false, err
	}
	withCLI, err := packagesWithCLITests(ctx, patterns)
	if err != nil {
		return false, err
	}
	adopt()
	place, err := newPlace(ctx)
	if err != nil {
		return false, err
	}
	defer place.remove()

	parts := lookAround(ctx)
	total := &tally{seen: os.Stderr}
	for _, r := range rounds(programs, newest, withCLI, patterns) {
		if ctx.Err() != nil {
			break
		}
		if acceptance && len(r.env) == 0 {
			continue
		}
		fmt.Printf("\n== %s\n", r.name)
		race := fmt.Sprintf("-race=%t", parts.noRace == "" && r.race)
		// Many tests at once: they wait more than they work. Two packages: the tests of real processes need a part of the computer.
		args := []string{"test", "-json", race, "-count=1", "-p=2", "-parallel=8", "-timeout=30m", "-shuffle=on", r.tests}
		if err := goTest(ctx, total, r, append(place.env(), r.env...), append(args, r.packages...)); err != nil {
			return false, err
		}
	}
	if left := leftProcesses(); ctx.Err() == nil {
		total.add(append(left, place.leftFiles()...)...)
	}

	for _, f := range total.failures {
		fmt.Printf("\nFAILED: %s", f)
	}
	fmt.Printf("\n%s\n%s\n%s\n", total.slowest(10), summary(programs, newest, len(withCLI) > 0, parts, total), total.counts())
	if ctx.Err() != nil {
		fmt.Printf("Interrupted (%v): the other tests did not run, and nothing was checked for what tests leave behind.\n", context.Cause(ctx))
	}
	return total.failed == 0 && total.passed > 0 && ctx.Err() == nil, nil
}

// find returns the programs that the tests for a CLI run on, and the Terraform that has actions and queries, its zero for none.
// make builds the files tofu and terraform, "" for none, unless PATH has a new enough one.
func find(ctx context.Context, tofu, terraform string) (programs []cli.CLI, newest cli.CLI, err error) {
	programs, err = cli.Find(ctx)
	if err != nil {
		return nil, cli.CLI{}, err
	}
	build := func(file string) (cli.CLI, error) {
		command := exec.CommandContext(ctx, "make", file)
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) } // make ends what it has started
		if err := command.Run(); err != nil {
			return cli.CLI{}, fmt.Errorf("make %s: %w", file, err)
		}
		built, err := cli.Identify(ctx, file)
		built.Built = true
		return built, err
	}
	has := func(product string, minor int) int {
		return slices.IndexFunc(programs, func(c cli.CLI) bool { return c.Product == product && c.AtLeast(1, minor) })
	}
	const writeOnly, actions = 11, 14 // since which 1.N both products have write-only arguments, and Terraform actions
	if tofu != "" && has(cli.OpenTofu, writeOnly) < 0 {
		built, err := build(tofu)
		if err != nil {
			return nil, cli.CLI{}, err
		}
		programs = append(programs, built)
	}
	if terraform == "" {
		return programs, cli.CLI{}, nil
	}
	if i := has(cli.Terraform, actions); i >= 0 {
		return programs, programs[i], nil
	}
	newest, err = build(terraform)
	return programs, newest, err
}

// round is one run of go test.
type round struct {
	name     string
	tests    string // the flag of go test that selects them
	packages []string
	folder   string // another module's, "" for this one
	env      []string
	race     bool // with the race detector
}

// rounds returns the runs: once what needs no CLI, the rest once on each, and on the newest Terraform what only it has. The race
// detector is on for the first CLI only, since others run the same code, and off in end-to-end tests, whose provider is a program
// that was built without it.
func rounds(programs []cli.CLI, newest cli.CLI, withCLI, patterns []string) []round {
	list := []round{{name: "all packages", tests: "-skip=" + perCLI + "|" + onTerraform, packages: patterns, race: true}}
	if slices.Equal(patterns, everything) {
		list = append(list, round{name: "the official OpenAI client", tests: "-run=.", packages: everything, folder: "tools/openai", race: true})
	}
	on := func(program cli.CLI, tests string, packages []string, race bool) {
		if len(packages) == 0 {
			return
		}
		r := round{
			name: program.String(), tests: "-run=" + tests, packages: packages, race: race,
			env: []string{"TF_ACC=1", "TF_ACC_TERRAFORM_PATH=" + program.Path},
		}
		if program.Product == cli.OpenTofu {
			r.env = append(r.env, "TF_ACC_PROVIDER_HOST="+program.Registry(), "TF_ACC_PROVIDER_NAMESPACE=hashicorp")
		}
		list = append(list, r)
	}
	for i, program := range programs {
		if i > 0 {
			on(program, perCLI, withCLI, false)
			continue
		}
		on(program, perCLI, slices.DeleteFunc(slices.Clone(withCLI), isEndToEnd), true)
		on(program, perCLI, slices.DeleteFunc(slices.Clone(withCLI), func(p string) bool { return !isEndToEnd(p) }), false)
	}
	if newest.Path != "" {
		on(newest, onTerraform, withCLI, false)
	}
	return list
}

func isEndToEnd(pkg string) bool { return strings.HasSuffix(pkg, "/internal/e2e") }

// packagesWithCLITests returns the packages that have tests for a CLI.
func packagesWithCLITests(ctx context.Context, patterns []string) ([]string, error) {
	const files = `{{range .TestGoFiles}}{{$.ImportPath}} {{$.Dir}}/{{.}}{{"\n"}}{{end}}` +
		`{{range .XTestGoFiles}}{{$.ImportPath}} {{$.Dir}}/{{.}}{{"\n"}}{{end}}`
	command := exec.CommandContext(ctx, "go", append([]string{"list", "-e", "-f", files}, patterns...)...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		importPath, file, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || slices.Contains(found, importPath) {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if cliTests.Match(text) {
			found = append(found, importPath)
		}
	}
	return found, nil
}

// goTest runs go test and adds its results to the tally. That tests failed is no error. When ctx ends, the go command and the
// test programs are interrupted, in their own process group; leftProcesses ends what they have started elsewhere.
func goTest(ctx context.Context, total *tally, r round, env, args []string) error {
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir = r.folder
	command.Env = env
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGINT) }
	command.WaitDelay = 10 * time.Second
	stdout, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	stopReaping := reapOthers(command.Process.Pid)
	failedBefore := total.failed
	readErr := total.read(ctx, r.name, stdout, os.Stdout)
	waitErr := command.Wait()
	stopReaping()
	if readErr != nil {
		return readErr
	}
	if waitErr != nil && total.failed == failedBefore && ctx.Err() == nil {
		total.add(failure{round: r.name, test: "go test", output: waitErr.Error()})
	}
	return nil
}
