package vllmserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func TestStartLogsItsPhasesInOrder(t *testing.T) {
	t.Parallel()
	s := serve(t, newMachine(t), nil)
	rest := s.log.String()
	for _, line := range []string{
		"version 0.33.0", "non-default args: {'model_tag': ", "Model loading took", "torch.compile took", "Available KV cache memory", "GPU KV cache size: ",
		"Maximum concurrency for 32,768 tokens", "init engine (profile", "Starting vLLM server on http://0.0.0.0:8000", "Application startup complete.",
	} {
		_, after, found := strings.Cut(rest, line)
		if !found {
			t.Fatalf("no %q, or too early, in\n%s", line, s.log)
		}
		rest = after
	}
	if !strings.Contains(s.log.String(), "(EngineCore pid=") {
		t.Error("the engine's lines are not marked as the engine's")
	}
}

// TestGPUMemoryIsHeldWhileItRuns: a second server finds what the first one left,
// and a stopped one gives everything back.
func TestGPUMemoryIsHeldWhileItRuns(t *testing.T) {
	t.Parallel()
	root := newMachine(t)
	s := serve(t, root, nil, "--gpu-memory-utilization", "0.5")
	claims, err := root.Claims()
	if err != nil || len(claims) != 1 || claims[0].MiB[0] != 12282 {
		t.Fatalf("claims: %+v, %v", claims, err)
	}
	s.cancel()
	if code := s.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, line := range []string{"[shutdown] API server: shutting down FastAPI HTTP server", "Application shutdown complete."} {
		if !strings.Contains(s.log.String(), line) {
			t.Errorf("no %q in\n%s", line, s.log)
		}
	}
	if claims, err = root.Claims(); err != nil || len(claims) != 0 {
		t.Errorf("claims of a server that ended: %+v, %v", claims, err)
	}
}

// TestAsAProcess runs the program as a machine does.
func TestAsAProcess(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		end   func(t *testing.T, cmd *exec.Cmd, life net.Conn)
		ready bool // ended when it serves, not while it loads
		code  int
		want  string
	}{
		{"TERM while serving", signal(syscall.SIGTERM), true, 0, "Application shutdown complete."},
		{"TERM while loading", signal(syscall.SIGTERM), false, 130, "KeyboardInterrupt: terminated"},
		{"KILL while serving", signal(syscall.SIGKILL), true, -1, ""},
		{"the machine's end", func(t *testing.T, _ *exec.Cmd, life net.Conn) { t.Helper(); _ = life.Close() }, true, 0, "Application shutdown complete."},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root := newMachine(t, func(f *machinefs.Facts) {
				if !test.ready {
					f.Speed = 10
				}
			})
			lifeline, err := net.Listen("unix", root.Lifeline())
			if err != nil {
				t.Fatal(err)
			}
			defer lifeline.Close()
			s := &server{t: t, root: root, log: &output{}, done: make(chan struct{})}
			cmd := program(t, root, s.log, "serve", testModel)
			life, err := lifeline.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer life.Close()
			started := "Disabling Triton" // while it imports
			if test.ready {
				started = "Application startup complete."
			}
			s.eventually("the start", func() bool { return strings.Contains(s.log.String(), started) })
			test.end(t, cmd, life)
			_ = cmd.Wait() // the code says it
			if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(s.log.String(), test.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, test.code, test.want, s.log)
			}
			if claims, err := root.Claims(); err != nil || len(claims) != 0 {
				t.Errorf("claims: %+v, %v", claims, err)
			}
		})
	}
}

func signal(sig syscall.Signal) func(*testing.T, *exec.Cmd, net.Conn) {
	return func(t *testing.T, cmd *exec.Cmd, _ net.Conn) {
		t.Helper()
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
}

// program starts this test binary as vllm.
func program(t *testing.T, root machinefs.Root, log *output, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: self, Args: append([]string{"vllm"}, args...), Env: []string{machinefs.Env + "=" + string(root)}, Stdout: log, Stderr: log}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd
}

// TestRealTCP: on no machine the server listens on the network, as in an image on
// a real engine.
func TestRealTCP(t *testing.T) {
	t.Parallel()
	port := fmt.Sprint(testkit.FreePort(t))
	taken, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	facts := vllmserver.FactsEnv + `={"gpus":[{"name":"NVIDIA L4","memory_mib":23034,"compute_capability":"8.9"}],"driver_version":"580.1","speed":5000}`
	s := launch(t, "", []string{facts}, "serve", testModel, "--host", "127.0.0.1", "--port", port)
	if code := s.wait(); code != 1 || !strings.Contains(s.log.String(), "[Errno 98] Address already in use") {
		t.Fatalf("exit code %d:\n%s", code, s.log)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	s = launch(t, "", []string{facts}, "serve", testModel, "--host", "127.0.0.1", "--port", port)
	s.eventually("the port", func() bool {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// TestPortIsTakenEarly: from before the engine starts until it is ready nobody
// else gets the port, and connections are refused.
func TestPortIsTakenEarly(t *testing.T) {
	t.Parallel()
	root := newMachine(t, func(f *machinefs.Facts) { f.Speed = 20 })
	s := launch(t, root, nil, "serve", testModel)
	s.eventually("the port", func() bool { return strings.Contains(s.log.String(), "Found ulimit") })
	if _, err := root.Dial(t.Context(), 8000); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialing a server that loads: %v", err)
	}
	if _, err := root.Listen(8000); !errors.Is(err, machinefs.ErrAddressInUse) {
		t.Errorf("listening on its port: %v", err)
	}
	s.cancel()
	s.wait()
	listener, err := root.Listen(8000)
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
}

// TestAnyStringIsOnlyAModelsName: a hostile id goes all the way to the
// API and nothing on the way takes it for anything but a name.
func TestAnyStringIsOnlyAModelsName(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"org/a; touch /tmp/owned", "$(reboot)", "x' OR '1'='1", "a\nb", "`id`", "../../etc/passwd", "ünïcode/модель"} {
		root := newMachine(t, func(f *machinefs.Facts) { f.VLLM.AnyModel = true })
		s := launch(t, root, nil, "serve", id)
		s.eventually("the server's start", func() bool {
			return s.ended() || strings.Contains(s.log.String(), "Application startup complete.")
		})
		var models struct{ Data []struct{ ID string } }
		_, body := s.call(http.MethodGet, "/v1/models", "k", "")
		if err := json.Unmarshal([]byte(body), &models); err != nil || len(models.Data) == 0 || models.Data[0].ID != id {
			t.Errorf("%q: %s, %v", id, body, err)
		}
		s.cancel()
		s.wait()
		refused := launch(t, newMachine(t), nil, "serve", id)
		if code := refused.wait(); code != 1 || !strings.Contains(refused.log.String(), "is not a valid model identifier") {
			t.Errorf("%q on the real hub: %d\n%s", id, code, refused.log)
		}
	}
}

func TestNetworkOfItsOwn(t *testing.T) {
	t.Parallel()
	root := newMachine(t)
	own := filepath.Join(string(root), "c")
	for _, dir := range []string{own, filepath.Join(own, vllmserver.LoopbackDir)} {
		if err := machinefs.Root(dir).Create(); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		host string
		at   machinefs.Root
	}{{"0.0.0.0", machinefs.Root(own)}, {"127.0.0.1", machinefs.Root(filepath.Join(own, vllmserver.LoopbackDir))}} {
		s := serve(t, root, []string{vllmserver.NetEnv + "=" + own}, "--host", test.host)
		conn, err := test.at.Dial(t.Context(), 8000)
		if err != nil {
			t.Errorf("%s: %v", test.host, err)
		} else {
			_ = conn.Close()
		}
		if conn, err := root.Dial(t.Context(), 8000); err == nil {
			_ = conn.Close()
			t.Errorf("%s: on the machine's port as well", test.host)
		}
		s.cancel()
		s.wait()
	}
}
