package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// withPath is this computer with a folder of programs first on PATH, and another home.
type withPath struct {
	local
	home, bin string
}

func (m withPath) Run(ctx context.Context, command host.Command) (host.Result, error) {
	command.Args = append([]string{"env", "PATH=" + m.bin + ":/usr/bin:/bin", "HOME=" + m.home, "BIN=" + m.bin}, command.Args...)
	return m.local.Run(ctx, command)
}

// notes returns how the programs below were called.
func (m withPath) notes(t *testing.T) string {
	t.Helper()
	return read(t, filepath.Join(m.bin, "notes"))
}

// Programs of a machine. uv makes an environment with a vLLM, and dies in the middle of its first installation. dpkg is locked
// twice, and gcc fails until its package is there.
const (
	fakePython = `#!/bin/sh
echo "python3 $*" >>"$BIN/notes"
case $* in
*sysconfig*) cat "$BIN/python" ;;
*--version) [ -e "$BIN/python3-pip" ] ;;
*install*)
	for argument; do case $argument in --target=*) target=${argument#*=} ;; esac; done
	mkdir -p "$target/bin" && cp "$BIN/uv.txt" "$target/bin/uv"
	;;
esac
`
	fakeUV = `#!/bin/sh
echo "uv $*" >>"$BIN/notes"
case $1 in
venv) for last; do :; done; mkdir -p "$last/bin"; : >"$last/pyvenv.cfg" ;;
pip)
	echo 'Downloading torch' >&2
	if [ ! -e "$BIN/once" ]; then : >"$BIN/once"; exit 9; fi
	for argument; do case $argument in --python=*) bin=${argument#*=} bin=${bin%/*} ;; esac; done
	printf '#!/bin/sh\necho 0.33.0\n' >"$bin/vllm"; chmod 700 "$bin/vllm"
	mkdir -p "$bin/../lib/python3.12/dist-packages/vllm-0.33.0.dist-info"
	;;
esac
`
	fakeAptGet = `#!/bin/sh
echo "$DEBIAN_FRONTEND apt-get $*" >>"$BIN/notes"
case $* in *install*) ;; *) exit 0 ;; esac
if [ ! -e "$BIN/locked2" ]; then
	[ ! -e "$BIN/locked" ] || : >"$BIN/locked2"
	: >"$BIN/locked"
	echo 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1187 (unattended-upgr)' >&2
	exit 100
fi
for package; do : >"$BIN/$package"; done
`
	fakeCompiler = "#!/bin/sh\n[ -e \"$BIN/libc6-dev\" ]\n"
	works        = "#!/bin/sh\n"
)

// bare is a machine with these programs, whose python3 is what python says.
func bare(t *testing.T, python string, programs map[string]string) (withPath, *Host) {
	t.Helper()
	needsLinux(t)
	m := withPath{home: t.TempDir(), bin: t.TempDir()}
	all := map[string]string{
		"python": python, "uv.txt": fakeUV, "python3": fakePython, "gcc": works, "clang": "#!/bin/sh\nexit 1\n", "apt-get": fakeAptGet,
		"sudo": "#!/bin/sh\nshift\nexec \"$@\"\n",
	}
	for name, content := range programs {
		all[name] = content
	}
	for name, content := range all {
		if err := os.WriteFile(filepath.Join(m.bin, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h, err := At(m, Options{}, m.home)
	if err != nil {
		t.Fatal(err)
	}
	return m, h
}

// program looks for the tools, and then for vLLM.
func program(t *testing.T, h *Host, options Options) (Program, []string, error) {
	t.Helper()
	h.Options = options
	if err := h.Look(within(t), ""); err != nil {
		t.Fatal(err)
	}
	var said []string
	err := h.Ready(within(t), func(line string) { said = append(said, line) })
	return h.Program, said, err
}

// pip installs uv once, by its checksum, and an interrupted installation is continued.
func TestInstallGetsUVAndGoesOn(t *testing.T) {
	t.Parallel()
	m, h := bare(t, "3.10 /usr/include/python3.10", map[string]string{"python3-pip": ""})
	options := Options{Version: "0.33.0"}
	_, _, err := program(t, h, options)
	failed, ok := errors.AsType[*deploy.Error](err)
	if !ok || !slices.Contains(failed.Log, "Downloading torch") || !slices.Contains(failed.Log, "installing uv "+uvVersion) {
		t.Fatalf("%v with the log %q", err, failed.Log)
	}
	found, _, err := program(t, h, options)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(m.home, DefaultDirectory, "env", "0.33.0", "bin", "vllm"); found.Path != want || found.Release != "0.33.0" {
		t.Errorf("vLLM is %v, want %s", found, want)
	}
	said := m.notes(t)
	if strings.Count(said, "--require-hashes") != 1 || strings.Count(said, "uv venv --managed-python --python=3.12") != 1 ||
		strings.Count(said, "uv pip install") != 2 || strings.Contains(said, "--torch-backend") || strings.Contains(said, "apt-get") {
		t.Errorf("asked:\n%s", said)
	}
}

// The machine's Python is used if all releases support it and it has headers.
func TestInstallUsesTheMachinesPython(t *testing.T) {
	t.Parallel()
	include := t.TempDir()
	if err := os.WriteFile(filepath.Join(include, "Python.h"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for python, want := range map[string]string{
		"3.12 " + include: "--no-managed-python --python=3.12", "3.10 " + include: "--managed-python --python=3.12",
		"3.12 /nonexistent": "--managed-python --python=3.12", "": "--managed-python --python=3.12",
	} {
		m, h := bare(t, python, map[string]string{"python3-pip": "", "once": ""})
		if _, _, err := program(t, h, Options{Version: "0.19.1"}); err != nil && !strings.Contains(err.Error(), "is missing") {
			t.Error(err)
		}
		if said := m.notes(t); !strings.Contains(said, "uv venv "+want) || !strings.Contains(said, "--exclude-newer=2026-04-18T23:59:59Z vllm==0.19.1") {
			t.Errorf("%q: asked:\n%s", python, said)
		}
	}
}

// Missing packages are installed once dpkg's lock is free, and the wait is reported.
func TestInstallsWhatIsMissing(t *testing.T) {
	t.Parallel()
	m, h := bare(t, "", map[string]string{"gcc": fakeCompiler, "once": ""})
	found, said, err := program(t, h, Options{Version: "0.33.0"})
	if err != nil || found.Release != "0.33.0" {
		t.Fatalf("%v, %v", found, err)
	}
	const install = "noninteractive apt-get -q install -y --no-install-recommends gcc g++ libc6-dev ca-certificates python3-pip"
	if notes := m.notes(t); strings.Count(notes, install) != 3 || strings.Count(notes, "apt-get -q update") != 1 {
		t.Errorf("asked:\n%s", notes)
	}
	if !strings.Contains(strings.Join(said, "\n"), "held by process 1187 (unattended-upgr)") {
		t.Errorf("reported: %q", said)
	}
	err = h.Look(within(t), "")
	if tools := h.Tools; err != nil || tools.Compiler != "gcc" || !tools.Pip || len(tools.Missing(true)) > 0 {
		t.Errorf("%+v, %v", tools, err)
	}
}

// An installed vLLM needs a compiler, too; with process.install "never" nothing is installed.
func TestCompilerForAVLLMThatIsThere(t *testing.T) {
	t.Parallel()
	for install, want := range map[string]bool{InstallMissing: true, InstallNever: false} {
		m, h := bare(t, "", map[string]string{"gcc": fakeCompiler, "locked": "", "vllm": "#!" + "/usr/bin/python\n"})
		found, _, err := program(t, h, Options{Install: install})
		if _, missing := os.Stat(filepath.Join(m.bin, "libc6-dev")); err != nil || found.Path == "" || (missing == nil) != want {
			t.Errorf("%s: %v, %v", install, found, err)
		}
	}
}

// An installation that fails says what could not be installed.
func TestInstallWithoutAWay(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		programs map[string]string
		cause    string
	}{
		"pip": {map[string]string{"python3-pip": "", "python3": `#!/bin/sh
case $* in *install*) echo 'ERROR: No matching distribution found for uv==0.13.9' >&2; exit 1 ;; esac
`}, "can't install uv"},
		"checksum": {map[string]string{"python3-pip": "", "python3": `#!/bin/sh
case $* in *install*) echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.' >&2; exit 1 ;; esac
`}, "doesn't match the provider's checksums"},
		"apt-get": {map[string]string{"gcc": "#!/bin/sh\nexit 1\n", "apt-get": `#!/bin/sh
case $* in *install*) echo 'E: Unable to locate package gcc' >&2; exit 100 ;; esac
`}, "gcc"},
	} {
		_, h := bare(t, "", test.programs)
		_, _, err := program(t, h, Options{Version: "0.33.0"})
		if failed, ok := errors.AsType[*deploy.Error](err); !ok || !strings.Contains(failed.Cause, test.cause) || failed.WayOut == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The real uv, by the real pip: with its own checksum, and with another's.
func TestInstallUVForReal(t *testing.T) {
	t.Parallel()
	if os.Getenv("SHOPPER_REAL_VLLM") == "" {
		t.Skip("SKIPPED: SHOPPER_REAL_VLLM is not set, so nothing is downloaded")
	}
	for requirement, want := range map[string]string{
		uvRequirement: "uv " + uvVersion,
		"uv==" + uvVersion + " --hash=sha256:" + strings.Repeat("0", 64): "DO NOT MATCH THE HASHES",
	} {
		base := t.TempDir()
		script := filepath.Join(base, "install.sh")
		if err := os.WriteFile(script, []byte(installScript), 0o600); err != nil {
			t.Fatal(err)
		}
		// The release doesn't exist: what comes after uv fails.
		command := exec.CommandContext(within(t), "sh", script, base, "", filepath.Join(base, "env"), "0.0.0.1", "", "3", uvVersion, requirement)
		command.Env = append(os.Environ(), "HOME="+base)
		said, _ := command.CombinedOutput()
		version, _ := exec.CommandContext(within(t), filepath.Join(base, "uv-"+uvVersion, "bin", "uv"), "--version").Output()
		if text := string(said) + string(version); !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
		if fits := requirement == uvRequirement; fits != strings.Contains(string(said), "there is no version of vllm==0.0.0.1") {
			t.Errorf("said:\n%s", said)
		}
	}
}

// A server finds the CUDA toolkit of vLLM's packages, unless its environment names another.
func TestToolkitOfThePackages(t *testing.T) {
	t.Parallel()
	needsLinux(t)
	if _, err := exec.LookPath("/usr/local/cuda/bin/nvcc"); err == nil {
		t.Skip("SKIPPED: this computer has a CUDA toolkit")
	}
	base := t.TempDir()
	toolkit := filepath.Join(base, "lib", "python3.12", "site-packages", "nvidia", "cu13")
	vllm := filepath.Join(base, "bin", "vllm")
	for _, file := range []string{filepath.Join(toolkit, "bin", "nvcc"), vllm} {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("#!/bin/sh\necho \"$CUDA_HOME\" \"$@\"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for given, want := range map[string]string{"": toolkit, "/opt/cuda": "/opt/cuda"} {
		h, err := At(local{}, Options{Directory: t.TempDir()}, "")
		if err != nil {
			t.Fatal(err)
		}
		environment := map[string]string{}
		if given != "" {
			environment["CUDA_HOME"] = given
		}
		h.Program.Path = vllm
		ref, err := h.Start(within(t), deploy.Wanted{Name: "test", Owner: "o", Arguments: []string{"serve", "a b"}, Environment: environment})
		if err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the server's end", func() bool { return inspect(t, h, ref).State == deploy.Exited })
		if log, err := h.Log(within(t), ref, 2); err != nil || len(log) == 0 || log[0] != want+" serve a b" {
			t.Errorf("CUDA_HOME=%s: %q, %v", given, log, err)
		}
	}
}

// An installation whose supervisor was killed is reported, and ends before the next one continues its work.
func TestOrphanedInstallation(t *testing.T) {
	t.Parallel()
	hangs := strings.Replace(fakeUV, `: >"$BIN/once"; exit 9`, `echo hangs >"$BIN/once"; exec sleep 1000`, 1)
	m, h := bare(t, "", map[string]string{"python3-pip": "", "uv.txt": hangs})
	h.Options = Options{Version: "0.33.0"}
	directory := filepath.Join(m.home, DefaultDirectory, "install", "0.33.0")
	t.Cleanup(func() {
		if _, err := h.end(context.WithoutCancel(t.Context()), directory, deploy.Stop{Force: true}); err != nil {
			t.Error(err)
		}
	})
	ended := make(chan error, 1)
	ctx := within(t)
	go func() { ended <- h.Ready(ctx, func(string) {}) }()
	testkit.Eventually(t, "a download", func() bool { return read(t, filepath.Join(m.bin, "once")) != "" })
	pid, _, _ := strings.Cut(read(t, filepath.Join(directory, "identity")), " ")
	supervisor, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if failed, ok := errors.AsType[*deploy.Error](<-ended); !ok || !strings.Contains(failed.Cause, "was killed") {
		t.Errorf("the first one: %v", failed)
	}
	if left := session(t, pid); len(left) > 0 {
		t.Errorf("it goes on unwatched: %v", left)
	}
	if found, _, err := program(t, h, h.Options); err != nil || found.Release != "0.33.0" {
		t.Errorf("the second one: %v, %v", found, err)
	}
}
