package lifecycle

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// scripted is a machine that answers commands by their words, and connections by their address.
type scripted struct {
	run  func(args []string) host.Result
	dial func(address string) error
}

func (s scripted) Run(_ context.Context, command host.Command) (host.Result, error) {
	return s.run(command.Args), nil
}

func (s scripted) Pipe(context.Context, ...string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func (s scripted) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	if err := s.dial(address); err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	return ours, theirs.Close()
}

// The port's holder is looked up as root if the user may not see it, and may be unknown.
func TestWhoHasThePort(t *testing.T) {
	t.Parallel()
	const listens = "LISTEN 0 4096 127.0.0.1:8000 0.0.0.0:*"
	const named = listens + ` users:(("nginx",pid=77,fd=6))`
	tests := []struct {
		name       string
		mine, root host.Result
		want       string
	}{
		{"one's own", host.Result{Stdout: named}, host.Result{ExitCode: 127}, "taken by nginx (pid 77)"},
		{"another's", host.Result{Stdout: listens}, host.Result{Stdout: named}, "taken by nginx (pid 77)"},
		{"another's, without sudo", host.Result{Stdout: listens}, host.Result{ExitCode: 1}, "another program"},
		{"no ss", host.Result{ExitCode: 127}, host.Result{ExitCode: 1}, "another program"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := &survey{request: Request{Spec: vllm.Spec{Model: "m"}}}
			machine := scripted{
				run: func(args []string) host.Result {
					if args[0] == "sudo" {
						return test.root
					}
					return test.mine
				},
				dial: func(string) error { return nil },
			}
			if err := s.lookForPort(t.Context(), machine); err != nil {
				t.Fatal(err)
			}
			found := s.judgePort()
			if len(found) != 1 || found[0].Severity != deploy.Blocking || !strings.Contains(found[0].Fact, test.want) || found[0].WayOut == "" {
				t.Errorf("found %v, want %q", found, test.want)
			}
		})
	}
}

// A hub that can't be reached is a finding; an error that says nothing about the hub is none.
func TestRouteToTheHub(t *testing.T) {
	t.Parallel()
	refused := &host.Error{Kind: host.Refused, Err: &ssh.OpenChannelError{Reason: ssh.ConnectionFailed, Message: "no route to host"}}
	tests := []struct {
		name  string
		spec  vllm.Spec
		err   error
		found bool
	}{
		{"reached", vllm.Spec{Model: "org/m"}, nil, false},
		{"no route", vllm.Spec{Model: "org/m"}, refused, true},
		{"forwarding is forbidden", vllm.Spec{Model: "org/m"}, &host.Error{Kind: host.Prohibited, Err: errors.New("prohibited")}, false},
		{"a path", vllm.Spec{Model: "/models/m"}, refused, false},
		{"offline", vllm.Spec{Model: "org/m", Env: map[string]string{"HF_HUB_OFFLINE": "1"}}, refused, false},
		{"a mirror", vllm.Spec{Model: "org/m", Env: map[string]string{"HF_ENDPOINT": "https://mirror.example"}}, refused, false},
		{"a proxy", vllm.Spec{Model: "org/m", Env: map[string]string{"HTTPS_PROXY": "http://proxy.example"}}, refused, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := &survey{request: Request{Spec: test.spec}}
			machine := scripted{dial: func(address string) error {
				if address != "huggingface.co:443" {
					t.Errorf("dialled %s", address)
				}
				return test.err
			}}
			if err := s.lookForHub(t.Context(), machine); err != nil {
				t.Fatal(err)
			}
			found := s.judgeHub()
			if len(found) > 0 != test.found {
				t.Fatalf("found %v", found)
			}
			if test.found && (!strings.Contains(found[0].Fact, "huggingface.co:443") || !strings.Contains(found[0].WayOut, "HF_ENDPOINT")) {
				t.Errorf("found %v", found[0])
			}
		})
	}
	lost := &host.Error{Kind: host.Lost, Err: errors.New("gone")}
	s := &survey{request: Request{Spec: vllm.Spec{Model: "org/m"}}}
	if err := s.lookForHub(t.Context(), scripted{dial: func(string) error { return lost }}); host.KindOf(err) != host.Lost {
		t.Errorf("a lost connection: %v", err)
	}
}

// Weights that go to another disk than the image need their room there.
func TestDisks(t *testing.T) {
	t.Parallel()
	const gb = 1e9
	image, bare := &container.Engine{}, &process.Host{}
	there := &process.Host{Program: process.Program{Path: "/usr/bin/vllm"}}
	tests := []struct {
		name           string
		image, weights disk
		runtime        deploy.Runtime
		severity       deploy.Severity // "" = nothing is found
		words          []string
	}{
		{"room", disk{"/", 60 * gb}, disk{"/", 60 * gb}, image, "", nil},
		{"tight", disk{"/", 30 * gb}, disk{"/", 30 * gb}, image, deploy.Warning, []string{"vLLM takes about 25.0 GB and the model's weights about 15.2 GB"}},
		{"tight, but the image is there", disk{"/", 30 * gb}, disk{"/", 30 * gb}, there, "", nil},
		{"full", disk{"/", 3 * gb}, disk{"/", 3 * gb}, image, deploy.Blocking, []string{"3.0 GB", "disk_gb"}},
		{"weights elsewhere", disk{"/", 26 * gb}, disk{"/data", 100 * gb}, image, "", nil},
		{"no room there", disk{"/", 26 * gb}, disk{"/data", 10 * gb}, image, deploy.Warning, []string{"at /data has 10.0 GB", "weights take about 15.2 GB"}},
		{"no room here", disk{"/", 4 * gb}, disk{"/data", 100 * gb}, image, deploy.Blocking, []string{"at / has 4.0 GB", "vLLM takes about 25.0 GB"}},
		{"no room to install", disk{"/", 8 * gb}, disk{"/data", 100 * gb}, bare, deploy.Blocking, []string{"vLLM takes about 8.9 GB"}},
		{"room to install", disk{"/", 9 * gb}, disk{"/data", 100 * gb}, bare, "", nil},
		{"installed", disk{"/", gb}, disk{"/data", 100 * gb}, there, "", nil},
		{"not told", disk{free: -1}, disk{free: -1}, bare, "", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := &survey{
				request: Request{Spec: vllm.Spec{Model: "Qwen/Qwen2.5-7B-Instruct"}}, runtime: test.runtime,
				imageDisk: test.image, weightsDisk: test.weights,
			}
			found := s.judgeDisk()
			if test.severity == "" {
				if len(found) > 0 {
					t.Errorf("found %v", found)
				}
				return
			}
			if len(found) != 1 || found[0].Severity != test.severity {
				t.Fatalf("found %v, want %s", found, test.severity)
			}
			for _, word := range test.words {
				if !strings.Contains(found[0].String(), word) {
					t.Errorf("%q is missing in %s", word, found[0])
				}
			}
		})
	}
}

// The disk of a path that isn't there yet is that of its nearest parent.
func TestDiskOf(t *testing.T) {
	t.Parallel()
	machine := scripted{run: func(args []string) host.Result {
		output, err := exec.CommandContext(t.Context(), args[0], args[1:]...).Output()
		if err != nil {
			t.Error(err)
		}
		return host.Result{Stdout: string(output)}
	}}
	there := t.TempDir()
	want, _, err := disksOf(t.Context(), machine, there, there)
	if err != nil || want.mount == "" || want.free < 0 {
		t.Fatalf("%v, %v", want, err)
	}
	for _, path := range []string{there + "/not/yet", there + "/a b/'c'/$(d)", "/", ""} {
		first, got, err := disksOf(t.Context(), machine, there, path)
		if err != nil || first.mount != want.mount || got.mount == "" || strings.HasPrefix(path, there) && got.mount != want.mount {
			t.Errorf("%q: %v, %v; want %v", path, got, err, want)
		}
	}
}

// Without nvidia-smi a driver may be on its way, where something is installing it; otherwise nobody waits.
func TestDriverThatIsBeingInstalled(t *testing.T) {
	t.Parallel()
	const gpu = "0, GPU-1, 24564, 18, 580.95.05, NVIDIA L4, 8.9, 46\n"
	for name, test := range map[string]struct {
		until time.Duration // 0 = nothing is being installed
		found string        // "" = no finding
		waits time.Duration
	}{
		"comes":       {7 * time.Minute, "", 7 * time.Minute},
		"doesn't":     {0, "no nvidia-smi", 0},
		"not in time": {time.Hour, "It did not come up in the 9m0s", 9 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				machine := scripted{run: func(args []string) host.Result {
					building := time.Since(begun) < test.until
					switch {
					case args[0] == "sh" && building:
						return host.Result{Stdout: "dkms\n"}
					case args[0] == "sh":
						return host.Result{ExitCode: 1}
					case building || test.until == 0:
						return host.Result{ExitCode: 127}
					}
					return host.Result{Stdout: gpu}
				}}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				s := &survey{request: Request{Spec: vllm.Spec{Model: "m"}}}
				told := 0
				if err := s.lookForGPUs(ctx, machine, func(string) { told++ }); err != nil {
					t.Fatal(err)
				}
				found := s.judgeDriver()
				took := time.Since(begun)
				if took < test.waits || took > test.waits+3*time.Second || (told > 0) != (test.waits > 0) {
					t.Errorf("waited %s and said so %d times", took, told)
				}
				if test.found == "" && len(found) > 0 || test.found != "" && (len(found) != 1 || !strings.Contains(found[0].Fact, test.found)) {
					t.Errorf("found %v, want %q", found, test.found)
				}
			})
		})
	}
}

// The script that looks for a driver being built is one that a shell can read.
func TestBuildingScript(t *testing.T) {
	t.Parallel()
	command := exec.CommandContext(t.Context(), "sh", "-n")
	command.Stdin = strings.NewReader(buildingScript)
	if output, err := command.CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("%v: %s", err, output)
	}
}
