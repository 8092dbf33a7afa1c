package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// planText is everything in a plan file.
func planText(t *testing.T, file string) string {
	t.Helper()
	var all strings.Builder
	for _, content := range unzipped(t, file) {
		all.Write(content)
	}
	if !strings.Contains(all.String(), "shopper_vllm_deployment") {
		t.Fatalf("a plan of %d bytes without the deployment", all.Len())
	}
	return all.String()
}

// watchCommandLines reads the command line of every process of this computer again
// and again, until the returned function is called. It must have met the server's.
func (w *world) watchCommandLines(t *testing.T, secrets map[string]string) (stop func()) {
	t.Helper()
	ending, served := make(chan struct{}), false
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ending:
				return
			case <-tick.C:
			}
			files, err := filepath.Glob("/proc/[0-9]*/cmdline")
			if err != nil {
				t.Error(err)
				return
			}
			for _, file := range files {
				line, err := os.ReadFile(file)
				if err != nil {
					continue // it has ended
				}
				served = served || bytes.Contains(line, []byte("serve\x00"+servedModel))
				for name, secret := range secrets {
					if bytes.Contains(line, []byte(secret)) {
						t.Errorf("%s is in a process's command line: %.300q", name, line)
						return
					}
				}
			}
		}
	})
	var once sync.Once
	return func() {
		once.Do(func() {
			close(ending)
			watching.Wait()
			if !served {
				t.Error("the server's command line was not among those that were looked at")
			}
		})
	}
}

// containerCommands are the commands of a machine's containers as its engine tells
// them; none where there is no engine.
func containerCommands(t *testing.T, root machinefs.Root) []string {
	t.Helper()
	if _, err := os.Stat(root.DockerSocket()); err != nil {
		return nil
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", root.DockerSocket())
		},
	}}
	get := func(path string, into any) {
		resp, err := client.Get("http://docker/v1.44" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	var list []struct{ ID string }
	get("/containers/json?all=1", &list)
	var lines []string
	for _, container := range list {
		var found struct {
			Path   string
			Args   []string
			Config struct{ Entrypoint, Cmd []string }
		}
		get("/containers/"+container.ID+"/json", &found)
		lines = append(lines, found.Path+" "+strings.Join(found.Args, " ")+" "+strings.Join(found.Config.Entrypoint, " ")+
			" "+strings.Join(found.Config.Cmd, " "))
	}
	if len(lines) == 0 {
		t.Error("the engine tells of no container")
	}
	return lines
}
