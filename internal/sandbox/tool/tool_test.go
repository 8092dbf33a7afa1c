package tool

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

func TestMain(m *testing.M) {
	Main(nil)
	os.Exit(m.Run())
}

// twoGPUs are the facts of a machine with two GPUs, the second of which tells little.
func twoGPUs() machinefs.Facts {
	return machinefs.Facts{
		User: "ubuntu",
		GPUs: []machinefs.GPU{
			{Name: "NVIDIA GeForce RTX 4090", UUID: "GPU-aa", MemoryMiB: 24564, ComputeCapability: "8.9"},
			{Name: "NVIDIA H100 80GB HBM3", UUID: "GPU-bb", MemoryMiB: 81559, ComputeCapability: "9.0", HeldMiB: 1000, NotAvailable: true},
		},
		Driver: machinefs.DriverReady, DriverVersion: "580.95.05", CUDAVersion: "13.0",
		DiskGB: 100, DiskFreeGB: 40,
	}
}

func newRoot(t *testing.T) machinefs.Root {
	t.Helper()
	root := machinefs.Root(t.TempDir())
	if err := root.Create(); err != nil {
		t.Fatal(err)
	}
	return root
}

// invoke runs a program in this process.
func invoke(root machinefs.Root, facts machinefs.Facts, commandLine ...string) (stdout, stderr string, code int) {
	var out, problems bytes.Buffer
	code = builtin[commandLine[0]](&call{
		root: root, facts: facts, name: commandLine[0], args: commandLine[1:],
		stdin: strings.NewReader(""), stdout: &out, stderr: &problems,
	})
	return out.String(), problems.String(), code
}

func TestNvidiaSMI(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	if err := root.SetClaim(machinefs.Claim{PID: os.Getpid(), Name: "VLLM::EngineCore", MiB: map[int]int{0: 20000, 1: 100000}}); err != nil {
		t.Fatal(err)
	}
	pid := "@" // stands for this process's below
	for _, test := range []struct {
		args string
		want string
		code int
	}{
		{args: "-L", want: "GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-aa)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bb)\n"},
		{
			args: "--query-gpu=index,name,uuid,driver_version,memory.total,memory.used,memory.free --format=csv",
			want: "index, name, uuid, driver_version, memory.total [MiB], memory.used [MiB], memory.free [MiB]\n" +
				"0, NVIDIA GeForce RTX 4090, GPU-aa, 580.95.05, 24564 MiB, 20000 MiB, 4564 MiB\n" +
				"1, NVIDIA H100 80GB HBM3, GPU-bb, 580.95.05, 81559 MiB, 81559 MiB, 0 MiB\n",
		},
		{
			args: "--query-gpu=utilization.gpu,temperature.gpu,compute_cap,pci.bus_id --format=csv,noheader,nounits",
			want: "0, 46, 8.9, 00000000:01:00.0\n[N/A], [N/A], 9.0, 00000000:02:00.0\n",
		},
		{args: "-i 1 --query-gpu gpu_name --format csv", want: "name\nNVIDIA H100 80GB HBM3\n"},
		{args: "--id=GPU-aa --query-gpu=utilization.gpu --format=csv,noheader", want: "0 %\n"},
		{
			args: "--query-compute-apps=pid,process_name,used_memory,gpu_uuid --format=csv",
			want: "pid, process_name, used_gpu_memory [MiB], gpu_uuid\n" +
				pid + ", VLLM::EngineCore, 20000 MiB, GPU-aa\n4190001, python3, 1000 MiB, GPU-bb\n" +
				pid + ", VLLM::EngineCore, 100000 MiB, GPU-bb\n",
		},
		{args: "--query-gpu=name,colour --format=csv", want: "Field \"colour\" is not a valid field to query.\n\n", code: 2},
		{args: "--query-gpu=name", want: "\"--format=\" switch is missing. Please run 'nvidia-smi -h' for help.\n", code: 2},
		{args: "-i 9 -L", want: "No devices were found for id \"9\"\n", code: 6},
	} {
		stdout, _, code := invoke(root, twoGPUs(), slices.Concat([]string{"nvidia-smi"}, strings.Fields(test.args))...)
		stdout = strings.ReplaceAll(stdout, strconv.Itoa(os.Getpid()), pid)
		if diff := cmp.Diff(test.want, stdout); diff != "" || code != test.code {
			t.Errorf("nvidia-smi %s: exit %d (-want +got)\n%s", test.args, code, diff)
		}
	}
	table, _, code := invoke(root, twoGPUs(), "nvidia-smi")
	for _, part := range []string{
		"NVIDIA-SMI 580.95.05", "Driver Version: 580.95.05", "CUDA Version: 13.0", "20000MiB /  24564MiB",
		"VLLM::EngineCore", "N/A",
	} {
		if !strings.Contains(table, part) || code != 0 {
			t.Errorf("the table has no %q (exit %d):\n%s", part, code, table)
		}
	}
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "|") && len(line) != 92 {
			t.Errorf("a line of the table is %d long: %s", len(line), line)
		}
	}
}

func TestNvidiaSMIWithoutDriverOrGPU(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	facts := twoGPUs()
	facts.Driver = machinefs.DriverBuilding
	stdout, _, code := invoke(root, facts, "nvidia-smi")
	if code != 9 || !strings.HasPrefix(stdout, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver") {
		t.Errorf("building: exit %d, %q", code, stdout)
	}
	facts.DriverReadyAt = time.Now().Add(-time.Second)
	if _, _, code := invoke(root, facts, "nvidia-smi"); code != 0 {
		t.Errorf("built: exit %d", code)
	}
	facts.GPUs = nil
	if stdout, _, code := invoke(root, facts, "nvidia-smi", "-L"); code != 6 || stdout != "No devices were found\n" {
		t.Errorf("no GPU: exit %d, %q", code, stdout)
	}
}

func TestDF(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	for _, test := range []struct {
		args           string
		stdout, stderr string
		code           int
	}{
		{args: "-Pk /var/lib/docker", stdout: "Filesystem 1024-blocks     Used Available Capacity Mounted on\n/dev/vda1    104857600 62914560  41943040      60% /\n"},
		{args: "-h", stdout: "Filesystem Size Used Avail Use% Mounted on\n/dev/vda1  100G  60G   40G  60% /\n"},
		{args: "--output=avail -BG /", stdout: "Avail\n   40\n"},
		{args: "-B1 --output=size,avail /", stdout: "   1B-blocks       Avail\n107374182400 42949672960\n"},
		{args: "not-here", stderr: "df: not-here: No such file or directory\n", code: 1},
		{args: string(root) + "/not-here", stderr: "df: " + string(root) + "/not-here: No such file or directory\n", code: 1},
		{args: "-x", stderr: "df: invalid option -- 'x'\nTry 'df --help' for more information.\n", code: 1},
	} {
		stdout, stderr, code := invoke(root, twoGPUs(), append([]string{"df"}, strings.Fields(test.args)...)...)
		if stdout != test.stdout || stderr != test.stderr || code != test.code {
			t.Errorf("df %s: exit %d\n%s%s", test.args, code, stdout, stderr)
		}
	}
}

func TestSudoCommandLines(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args    string
		want    sudoOrder
		problem string
	}{
		{args: "-n true", want: sudoOrder{user: "root", command: []string{"true"}}},
		{args: "-nE A=1 -- env -i", want: sudoOrder{user: "root", keepEnv: true, set: []string{"A=1"}, command: []string{"env", "-i"}}},
		{args: "-u www -H id -u", want: sudoOrder{user: "www", command: []string{"id", "-u"}}},
		{args: "-n -v", want: sudoOrder{user: "root", nothing: true}},
		{args: "-u", want: sudoOrder{user: "root"}, problem: "option requires an argument -- 'u'"},
		{args: "-Z true", want: sudoOrder{user: "root"}, problem: "invalid option -- 'Z'"},
	} {
		got, problem := parseSudo(strings.Fields(test.args))
		if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(sudoOrder{})); diff != "" || problem != test.problem {
			t.Errorf("sudo %s: %q (-want +got)\n%s", test.args, problem, diff)
		}
	}
}

func TestReleasedVersions(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"0.11.0": true, "0.33.0": true, "0.8.5": true,
		"0.33.1": false, "0.34.0": false, "1.0.0": false, "0.11": false, "0.11.0rc1": false, "v0.11.0": false, "": false, "0.11.99": false,
	} {
		if got := released(version); got != want {
			t.Errorf("released(%q) = %v", version, got)
		}
	}
}

func TestInstalledFollowsTheFacts(t *testing.T) {
	t.Parallel()
	has := func(facts machinefs.Facts, name string) bool { return slices.Contains(Installed(facts), name) }
	facts := machinefs.Facts{Container: true, Driver: machinefs.DriverMissing, VLLM: machinefs.VLLM{Installed: "0.11.0"}}
	for _, name := range []string{"sudo", "docker", "nvidia-smi", VLLM} { // nobody provided a vllm to Main
		if has(facts, name) {
			t.Errorf("a container has %s", name)
		}
	}
	facts.Container, facts.Docker, facts.Driver = false, true, machinefs.DriverBuilding
	for _, name := range []string{"sudo", "docker", "nvidia-smi"} {
		if !has(facts, name) {
			t.Errorf("a VM has no %s", name)
		}
	}
	for _, name := range []string{"df", "apt-get", "dpkg", "whoami"} {
		if !slices.Contains(Everywhere(), name) || has(facts, name) {
			t.Errorf("%s isn't just everywhere", name)
		}
	}
	if !Ready() {
		t.Error("Main was called, and isn't known to have been")
	}
}

func TestKeepClearsUp(t *testing.T) {
	t.Parallel()
	kept, forgotten := filepath.Join(t.TempDir(), "kept"), filepath.Join(t.TempDir(), "forgotten")
	for _, dir := range []string{kept, forgotten} {
		if err := os.MkdirAll(filepath.Join(dir, "home"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	clearUp(strings.NewReader("+" + kept + "\n+" + forgotten + "\n-" + forgotten + "\n"))
	if _, err := os.Stat(kept); !os.IsNotExist(err) {
		t.Errorf("a machine that nobody closed is still there: %v", err)
	}
	if _, err := os.Stat(forgotten); err != nil {
		t.Errorf("a machine that was closed by its owner is the owner's to remove: %v", err)
	}
}

func TestPodmanAndCDI(t *testing.T) {
	t.Parallel()
	facts := twoGPUs()
	facts.Docker, facts.Podman, facts.DockerNeedsRoot = true, "5.4.2", true
	for _, test := range []struct {
		line, stdout, stderr string
		code                 int
		change               func(*machinefs.Facts)
	}{
		{line: "podman --version", stdout: "podman version 5.4.2\n"},
		{line: "podman system dial-stdio", stderr: podmanNotRunning + "\n", code: 125},
		{line: "nvidia-ctk cdi list", stdout: "nvidia.com/gpu=0\nnvidia.com/gpu=1\nnvidia.com/gpu=all\n", stderr: "INFO[0000] Found 3 CDI devices\n"},
		{
			line: "nvidia-ctk cdi list", stderr: "INFO[0000] Found 0 CDI devices\n",
			change: func(f *machinefs.Facts) { f.NoGPURuntime = true },
		},
	} {
		given := facts
		if test.change != nil {
			test.change(&given)
		}
		stdout, stderr, code := invoke(newRoot(t), given, strings.Fields(test.line)...)
		if stdout != test.stdout || stderr != test.stderr || code != test.code {
			t.Errorf("%s: %q, %q, %d", test.line, stdout, stderr, code)
		}
	}
	for program, want := range map[string]bool{"docker": false, "podman": true, "nvidia-ctk": true} {
		if present(program, facts) != want {
			t.Errorf("%s is there: %t", program, !want)
		}
	}
}
