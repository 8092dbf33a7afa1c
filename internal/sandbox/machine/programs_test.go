package machine_test

import (
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

func TestAVMHasItsPrograms(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	client := dial(t, m, k)
	for _, test := range []struct{ command, want string }{
		{"whoami; id -u; id -un; hostname; uname -sm", "ubuntu\n1000\nubuntu\nC.4711\nLinux x86_64\n"},
		{"sudo -n whoami; sudo -n id -u; sudo -u ubuntu whoami", "root\n0\nubuntu\n"},
		{"sudo -n -- sh -c 'echo $USER $SUDO_USER $0' arg", "root ubuntu arg\n"},
		{"A=1 sudo -n sh -c 'echo x$A'; A=1 sudo -nE sh -c 'echo x$A'; sudo -n A=2 sh -c 'echo x$A'", "x\nx1\nx2\n"},
		{"nvidia-smi --query-gpu=name,memory.total --format=csv,noheader", "NVIDIA GeForce RTX 4090, 24564 MiB\n"},
		{"df -Pk / | tail -1 | tr -s ' '", "/dev/vda1 209715200 52428800 157286400 25% /\n"},
		{"vllm --version || echo none", "none\n"},
		{"nvidia-smi -i 7 >/dev/null; echo $?", "6\n"},
	} {
		if got := output(t, client, test.command); got != test.want {
			t.Errorf("%s: %q, want %q", test.command, got, test.want)
		}
	}
}

func TestPasswordlessSudoPassesTheExitCodeOn(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	client := dial(t, start(t, vm(), k), k)
	for _, test := range []struct {
		command string
		code    int
		stderr  string
	}{
		{"sudo -n sh -c 'exit 6'", 6, ""},
		{"sudo -n no-such-program", 1, "sudo: no-such-program: command not found\n"},
		{"sudo -x true", 1, "sudo: invalid option -- 'x'\n"},
		{"sudo -n docker ps", 1, "not part of a sandbox machine"},
		{"sudo -n snap install docker", 1, "not part of a sandbox machine"},
		{"apt-get install -y wget", 100, "are you root?"},
		{"sudo -n apt-get install -y wget && command -v wget", 0, ""},
		{"docker version", 1, "Cannot connect to the Docker daemon"},
	} {
		got := run(t, client, test.command)
		if got.code != test.code || !strings.Contains(got.stderr, test.stderr) {
			t.Errorf("%s: %+v", test.command, got)
		}
	}
}

func TestAContainerHasNeitherSudoNorDocker(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	facts := container()
	facts.VLLM.Installed = "0.11.0"
	client := dial(t, start(t, facts, k), k)
	for _, program := range []string{"sudo", "docker", "podman"} { // the tester's own would be found otherwise
		got := run(t, client, program+" version")
		if got.code != 127 || !strings.Contains(got.stderr, "not found") {
			t.Errorf("%s: %+v", program, got)
		}
	}
	if got := output(t, client, "whoami; id; vllm serve m"); got != "root\nuid=0(root) gid=0(root) groups=0(root)\nvllm on PATH [serve m]\n" {
		t.Errorf("got %q", got)
	}
}

// The only firewall that a machine's commands find is its own, which is a record; not even root finds the tester's.
func TestFirewallIsTheMachines(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	facts := container()
	facts.Packages = []string{"python3"}
	for _, program := range []string{"iptables", "ip6tables", "nft"} {
		if got := run(t, dial(t, start(t, facts, k), k), program+" -S"); got.code != 127 {
			t.Errorf("%s in a container: %+v", program, got)
		}
	}
	one, another := start(t, vm(), k), start(t, vm(), k)
	client := dial(t, one, k)
	if got := output(t, client, "command -v iptables; sudo sh -c 'command -v ip6tables'"); strings.Count(got, one.Root().Bin()+"/ip") != 2 {
		t.Errorf("found %q", got)
	}
	const rule = "-A INPUT ! -i lo -p tcp -m tcp --dport 4711 -j DROP"
	if got := output(t, client, "sudo iptables -w -I INPUT ! -i lo -p tcp --dport 4711 -j DROP; sudo iptables -S INPUT"); got != "-P INPUT ACCEPT\n"+rule+"\n" {
		t.Errorf("it says %q", got)
	}
	mine, err := one.Root().Rules("iptables")
	others, otherErr := another.Root().Rules("iptables")
	if err != nil || otherErr != nil || len(mine) != 1 || mine[0] != rule || len(others) > 0 {
		t.Errorf("rules %q (%v), another machine's %q (%v)", mine, err, others, otherErr)
	}
}

func TestFactsGiveAndTakePrograms(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	facts := vm()
	facts.Driver = machinefs.DriverMissing
	m := start(t, facts, k)
	client := dial(t, m, k)
	if got := run(t, client, "nvidia-smi"); got.code != 127 {
		t.Errorf("without a driver: %+v", got)
	}
	change := func(f func(*machinefs.Facts)) {
		t.Helper()
		if err := m.SetFacts(f); err != nil {
			t.Fatal(err)
		}
	}
	change(func(f *machinefs.Facts) { f.Driver = machinefs.DriverBuilding })
	got := run(t, client, "nvidia-smi -L")
	if got.code != 9 || !strings.HasPrefix(got.stdout, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.") {
		t.Errorf("while the driver is built: %+v", got)
	}
	change(func(f *machinefs.Facts) { f.Driver = machinefs.DriverReady })
	if got := output(t, client, "nvidia-smi -L"); got != "GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-5f3c)\n" {
		t.Errorf("with the driver: %q", got)
	}
	change(func(f *machinefs.Facts) { f.DockerNeedsRoot = true })
	if got := run(t, client, "docker version"); got.code != 1 || !strings.Contains(got.stderr, "permission denied") {
		t.Errorf("without the group: %+v", got)
	}
	if got := run(t, client, "sudo docker version"); !strings.Contains(got.stderr, "Cannot connect") {
		t.Errorf("as root: %+v", got)
	}
	change(func(f *machinefs.Facts) { f.Docker = false })
	if got := run(t, client, "docker version"); got.code != 127 {
		t.Errorf("with Docker taken away: %+v", got)
	}
}

func TestUVInstallsVLLM(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, container(), k)
	client := dial(t, m, k)
	output(t, client, "uv venv --python 3.12 'my venv'")
	const install = "uv pip install --python 'my venv' --torch-backend=auto vllm=="
	refused := run(t, client, install+"9.9.9")
	if refused.code != 1 || !strings.Contains(refused.stderr, "there is no version of vllm==9.9.9") {
		t.Errorf("an unknown release: %+v", refused)
	}
	if got := run(t, client, "'my venv/bin/vllm' --version"); got.code != 127 {
		t.Errorf("before it is installed: %+v", got)
	}
	for _, version := range []string{"0.11.0", "0.12.0"} {
		got := run(t, client, install+version)
		if got.code != 0 || !strings.Contains(got.stderr, "vllm=="+version) {
			t.Fatalf("installing: %+v", got)
		}
		for _, command := range []string{"'my venv/bin/vllm' --version", `PATH="$PWD/my venv/bin:$PATH" vllm --version`} {
			if got := output(t, client, command); got != "vllm "+version+" [--version]\n" {
				t.Errorf("%s: %q", command, got)
			}
		}
	}
	if got := run(t, client, install+"0.12.0"); !strings.Contains(got.stderr, "Audited") {
		t.Errorf("a second time: %+v", got)
	}
	if got := run(t, client, "uv pip install --python elsewhere vllm"); got.code != 2 {
		t.Errorf("without an environment: %+v", got)
	}
	if err := m.SetFacts(func(f *machinefs.Facts) { f.DiskFreeGB = 0 }); err != nil {
		t.Fatal(err)
	}
	if got := run(t, client, install+"0.10.2"); !strings.Contains(got.stderr, "No space left on device") {
		t.Errorf("on a full disk: %+v", got)
	}
}

func TestSSShowsWhoListens(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	l, err := m.Root().Listen(8000)
	if err != nil {
		t.Fatal(err)
	}
	serveText(t, l, "")
	client := dial(t, m, k)
	got := output(t, client, "ss -Hltnp 'sport = :8000'")
	if fields := strings.Fields(got); len(fields) != 6 || fields[3] != "127.0.0.1:8000" || !strings.HasPrefix(fields[5], `users:(("docker-proxy",pid=`) {
		t.Errorf("got %q", got)
	}
	_ = l.Close()
	if got := output(t, client, "ss -ltn"); strings.Contains(got, ":8000") || !strings.Contains(got, "0.0.0.0:22") {
		t.Errorf("got %q", got)
	}
}

func TestTheRecordHasEveryCommandLine(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	client := dial(t, m, k)
	output(t, client, "echo $(whoami) 'quoted words'")
	m.Record([]string{"vllm", "serve", "a model"})
	want := []string{"echo $(whoami) 'quoted words'", "whoami", "vllm serve a model"}
	if got := m.CommandLog(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAProgramWithoutItsMachineSaysSo(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	client := dial(t, start(t, vm(), k), k)
	got := run(t, client, `nvidia=$(command -v nvidia-smi); env -i "$nvidia"`)
	if got.code != 127 || !strings.Contains(got.stderr, "not on a sandbox machine") {
		t.Errorf("%+v", got)
	}
}

func TestHostileCommandLinesStayWithinTheShell(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	client := dial(t, m, k)
	hostile := "$(touch pwned) `touch pwned`; touch pwned\n'\"\\ \t*"
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if err := session.Setenv("LC_HOSTILE", hostile); err != nil {
		t.Fatal(err)
	}
	out, err := session.Output(`printf %s "$LC_HOSTILE"; ls`)
	if err != nil || string(out) != hostile {
		t.Errorf("got %q, %v", out, err)
	}
	if err := refusedEnv(client); err == nil {
		t.Error("LD_PRELOAD was accepted")
	}
}

func refusedEnv(client *ssh.Client) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	return session.Setenv("LD_PRELOAD", "/tmp/x.so")
}
