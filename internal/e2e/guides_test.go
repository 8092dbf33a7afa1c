package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// guides are those with something to run, with what a reader has to see in the end.
var guides = map[string]struct {
	// rented has a script's session there before, with its key in the file "key".
	rented bool
	wants  []string
}{
	"getting-started":              {wants: []string{`"choices"`, "No changes.", "Destroy complete!", "0 billing"}},
	"secrets-without-state":        {wants: []string{"1 changed, 0 destroyed"}},
	"choosing-hardware":            {wants: []string{`needs = "`, "an hour\","}},
	"private-and-public-endpoints": {wants: []string{`"owned_by"`}},
	"fleets-and-gateways":          {wants: []string{"4 added", "2 added, 0 changed, 0 destroyed", "4 destroyed"}},
	"testing-modules":              {wants: []string{"3 passed, 0 failed", "1 passed, 0 failed", `"struck"`}},
	"moving-from-scripts":          {rented: true, wants: []string{"my-script", "1 imported, 1 added, 1 changed, 0 destroyed"}},
}

// elsewhere are blocks that can't be run here, by their beginning, with why.
var elsewhere = map[string]string{
	"shopper-sandbox\n":   "the world has one",
	"./shopper-sandbox\n": "the world has one",
	"go install ":         "it downloads a release",
	"VLLM_API_KEY=secret ./shopper-sandbox vllm":     "it never ends; a test of the sandbox's program runs it",
	"export SHOPPER_URL=https://shopper.example.org": "a real shopper",
	"litellm ": "not a part of this",
	"export SHOPPER_SSH_PRIVATE_KEY=\"$(cat key)\"\n": "TestE2EExampleOwnMachine does it, with a machine that exists",
}

// TestE2EGuides does what the guides say, word by word: writes the files that they show and runs the commands, in their order.
func TestE2EGuides(t *testing.T) {
	t.Parallel()
	if os.Getenv("TF_ACC") == "" {
		t.Skip("SKIPPED: TF_ACC is not set, so no CLI is run")
	}
	for _, program := range []string{"bash", "ssh", "ssh-keygen", "curl", "jq", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: no %s on this machine, which the guides use", program)
		}
	}
	used := map[string]bool{}
	for name, guide := range guides {
		blocks := blocks(t, name)
		for _, block := range blocks {
			if block.language == "sh" && block.elsewhere() != "" {
				used[block.elsewhere()] = true
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "-offers", "", "-machines", "", "-speed", "60")
			s := w.reader(t, built.cli)
			if guide.rented {
				s.takesOver(t, w.byScript(t, "vastai", func(o sandbox.Offer) bool { return o.VRAMGB >= 24 && o.CUDAVersion >= 13 }))
			}
			said := s.follow(t, script(blocks))
			says(t, said, guide.wants...)
			if billing := w.ledger(t).Billing; len(billing) != 0 {
				t.Errorf("still billing: %v", billing)
			}
		})
	}
	for beginning := range elsewhere {
		if !used[beginning] {
			t.Errorf("no guide has a command that begins with %q", beginning)
		}
	}
}

// What is applied with Terraform goes on with OpenTofu, and back.
func TestE2EGuideOpenTofu(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "-offers", "", "-machines", "", "-speed", "60")
	tofu, err := exec.LookPath("tofu")
	if err != nil {
		tofu, err = filepath.Abs(filepath.Join("..", "..", ".build", "bin", "tofu"))
	}
	if _, missing := os.Stat(tofu); err != nil || missing != nil || !strings.HasPrefix(built.version, "Terraform") {
		t.Skipf("SKIPPED: it takes a Terraform (%s is tested) and an OpenTofu", built.version)
	}
	before := []block{blocks(t, "getting-started")[3], {language: "sh", text: "terraform init\nterraform apply\n"}}
	said := w.reader(t, tofu).follow(t, script(append(before, blocks(t, "opentofu")...)))
	says(t, said, "Apply complete!", "No changes.", "0 added, 0 changed, 0 destroyed", "Successfully replaced provider for 4 resources", "No changes.",
		"Destroy complete!")
}

// block is what a guide shows in a fence.
type block struct{ language, file, text string }

func (b block) elsewhere() string {
	for beginning := range elsewhere {
		if strings.HasPrefix(b.text, beginning) {
			return beginning
		}
	}
	return ""
}

var (
	fencePattern = regexp.MustCompile("(?s)```(\\w+)\n(.*?\n)```\n")
	filePattern  = regexp.MustCompile("`([\\w./-]+\\.(?:tf|hcl|json))`")
	wholePattern = regexp.MustCompile(`(?m)^terraform \{`)
)

// blocks returns the blocks of a guide. A block's file is the one that the text before it names last, else main.tf for a whole
// configuration.
func blocks(t *testing.T, guide string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "guides", guide+".md"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	before := 0
	for _, at := range fencePattern.FindAllSubmatchIndex(text, -1) {
		b := block{language: string(text[at[2]:at[3]]), text: string(text[at[4]:at[5]])}
		endings := map[string]string{"terraform": ".tf", "hcl": ".hcl", "json": ".json"}
		for _, named := range filePattern.FindAllSubmatch(text[before:at[0]], -1) {
			if ending, known := endings[b.language]; known && strings.HasSuffix(string(named[1]), ending) {
				b.file = string(named[1])
			}
		}
		if b.file == "" && wholePattern.MatchString(b.text) {
			b.file = "main.tf"
		}
		blocks, before = append(blocks, b), at[1]
	}
	return blocks
}

// script is what a reader does. A whole configuration begins a new directory, and what was applied in the last one is destroyed.
func script(blocks []block) string {
	var text strings.Builder
	for _, b := range blocks {
		switch {
		case b.language == "sh" && b.elsewhere() == "":
			fmt.Fprintf(&text, "{ set -x; } 2>/dev/null\n%s{ set +x; } 2>/dev/null\n", b.text)
		case b.language != "sh" && b.file != "":
			if b.file == "main.tf" {
				text.WriteString("new_directory\n")
			}
			fmt.Fprintf(&text, "mkdir -p %s\ncat >%s <<'END_OF_FILE'\n%sEND_OF_FILE\n", path.Dir(b.file), b.file, b.text)
		}
	}
	return text.String() + "leave\n"
}

const prelude = `set -euo pipefail
leave() { if [ -s terraform.tfstate ]; then terraform destroy; fi; }
new_directory() { leave; cd "$(mktemp -d "$READER/XXXXXX")"; cp -R "$READER/given/." .; }
`

// reader is somebody with an empty home, in which the provider is installed, who never hears of the tests.
func (w *world) reader(t *testing.T, tofu string) *stack {
	t.Helper()
	s := w.newStack(t, "s")
	for _, registry := range []string{"registry.terraform.io", "registry.opentofu.org"} {
		platform := filepath.Join(w.home(), ".terraform.d", "plugins", registry, "cloud-gpu-shopper", "shopper", "0.1.0", platform(t))
		if err := os.MkdirAll(platform, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(built.providers, providerName), filepath.Join(platform, providerName+"_v0.1.0")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(s.cliConfig(), nil, 0o600); err != nil { // no development overrides
		t.Fatal(err)
	}
	given, programs := filepath.Join(s.dir, "given"), filepath.Join(s.dir, "bin")
	if err := os.CopyFS(filepath.Join(given, "terraform-provider-shopper", "examples"), os.DirFS(filepath.Join("..", "..", "examples"))); err != nil {
		t.Fatal(err)
	}
	// Ports of this computer that another test may have are others.
	api := fmt.Sprint(testkit.FreePort(t))
	ports := "s/-L 127.0.0.1:8000:/-L 127.0.0.1:" + api + ":/;"
	for _, port := range []string{"18001", "18002", "18003"} {
		ports += fmt.Sprintf("s/-L 127.0.0.1:%s:/-L 127.0.0.1:%d:/;", port, testkit.FreePort(t))
	}
	for program, text := range map[string]string{
		"git":       "exit 0", // has cloned it
		"terraform": cli(built.cli, ports, api),
		"tofu":      cli(tofu, ports, api),
	} {
		if err := os.MkdirAll(programs, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(programs, program), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.env = append(s.env, "PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"), "READER="+s.dir,
		"SHOPPER_URL="+w.url, fmt.Sprint("TF_VAR_port=", testkit.FreePort(t)))
	return s
}

// cli is a program for a CLI that asks nothing, where tunnels use these ports instead.
func cli(program, ports, api string) string {
	return fmt.Sprintf(`case "$1" in
apply|destroy) exec %[1]q "$@" -auto-approve -input=false -no-color ;;
output) %[1]q "$@" | sed '%[2]ss,^http://127.0.0.1:8000/v1$,http://127.0.0.1:%[3]s/v1,' ;;
test|plan) exec %[1]q "$@" -no-color ;;
*) exec %[1]q "$@" ;;
esac`, program, ports, api)
}

func platform(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOOS", "GOARCH").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(out)), "_")
}

// takesOver gives the reader a script's machine: its id in ID, and its key in the file "key".
func (s *stack) takesOver(t *testing.T, machine rented) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "given", "key"), []byte(machine.Key), 0o600); err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "ID="+machine.ID)
}

// follow runs a reader's script to its end and returns what was on the screen.
func (s *stack) follow(t *testing.T, text string) string {
	t.Helper()
	text = strings.ReplaceAll(text, "http://127.0.0.1:8080", s.world.url)
	said, err := os.Create(filepath.Join(s.dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = said.Close() }()
	file := filepath.Join(s.dir, "script")
	if err := os.WriteFile(file, []byte(prelude+text), 0o600); err != nil {
		t.Fatal(err)
	}
	shell := exec.Command("bash", file)
	shell.Dir, shell.Env, shell.Stdout, shell.Stderr = s.dir, s.environment(), said, said
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ended := make(chan error, 1)
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- shell.Wait() }()
	select {
	case err = <-ended:
	case <-time.After(6 * patience):
		_ = syscall.Kill(-shell.Process.Pid, syscall.SIGINT)
		err = <-ended
	}
	screen, readErr := os.ReadFile(said.Name())
	if err != nil || readErr != nil {
		t.Fatalf("%v %v\n%s", err, readErr, screen)
	}
	return plain(string(screen))
}
