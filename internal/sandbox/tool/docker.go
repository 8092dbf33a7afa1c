package tool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"text/template"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// dockerVersion is the command line's own version, which the engine's may differ from.
const dockerVersion = "27.5.1"

const dockerNotRunning = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"

// docker is as much of Docker's command line as connecting to the engine takes.
func docker(c *call) int {
	args := c.args
	switch {
	case len(args) == 1 && (args[0] == "--version" || args[0] == "-v"):
		c.printf("Docker version %s, build 9f9e405\n", dockerVersion)
		return 0
	case c.deniedDocker():
		return c.failf(1, "permission denied while trying to connect to the Docker daemon socket at "+
			"unix:///var/run/docker.sock: dial unix /var/run/docker.sock: connect: permission denied")
	case len(args) == 2 && args[0] == "system" && args[1] == "dial-stdio":
		return dialStdio(c)
	case len(args) > 0 && args[0] == "version":
		return dockerQuery(c, "/version", args[1:])
	case len(args) > 0 && args[0] == "info":
		return dockerQuery(c, "/info", args[1:])
	case len(args) > 1 && args[0] == "system" && args[1] == "info":
		return dockerQuery(c, "/info", args[2:])
	}
	return c.failf(1, "docker %s: not part of a sandbox machine, which has `docker system dial-stdio`, "+
		"`docker version` and `docker info`: use the Engine API", strings.Join(args, " "))
}

// deniedDocker is true for a user outside the group that may use Docker.
func (c *call) deniedDocker() bool {
	return c.facts.DockerNeedsRoot && c.user() != "root"
}

func (c *call) dialDocker(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", c.root.DockerSocket())
}

// dialStdio makes standard input and output a connection to the engine. The end
// of either direction is passed on by itself, as a hijacked stream needs it.
func dialStdio(c *call) int {
	conn, err := c.dialDocker(context.Background())
	if err != nil {
		return c.failf(1, dockerNotRunning)
	}
	defer conn.Close()
	go machinefs.PassOn(conn, c.stdin) // ends with the process
	if _, err := io.Copy(c.stdout, conn); err != nil && !errors.Is(err, io.EOF) {
		return c.failf(1, "copying from the Docker daemon: %v", err)
	}
	return 0
}

// dockerQuery shows what the engine answers on path.
func dockerQuery(c *call, path string, args []string) int {
	format, problem := dockerFormat(args)
	if problem != "" {
		return c.failf(1, "%s", problem)
	}
	engine, err := c.askDocker(path)
	if err != nil {
		return c.failf(1, "%s", err)
	}
	answer := any(engine)
	if path == "/version" {
		answer = map[string]any{"Client": map[string]any{"Version": dockerVersion}, "Server": engine}
	}
	if format == "" { // not as docker lays it out for people
		text, _ := json.MarshalIndent(answer, "", " ") // decoded JSON
		c.printf("%s\n", text)
		return 0
	}
	page, err := template.New("format").Funcs(template.FuncMap{"json": toJSON}).Parse(format)
	if err != nil {
		return c.failf(64, "template parsing error: %v", err)
	}
	if err := page.Execute(c.stdout, answer); err != nil {
		return c.failf(1, "template: %v", err)
	}
	c.printf("\n")
	return 0
}

func dockerFormat(args []string) (format, problem string) {
	for len(args) > 0 {
		switch value, inline := strings.CutPrefix(args[0], "--format="); {
		case inline:
			format, args = value, args[1:]
		case (args[0] == "--format" || args[0] == "-f") && len(args) > 1:
			format, args = args[1], args[2:]
		default:
			return "", "unknown flag or argument: " + args[0]
		}
	}
	if format == "json" {
		format = "{{json .}}"
	}
	return format, ""
}

func toJSON(v any) (string, error) {
	data, err := json.Marshal(v)
	return string(data), err
}

func (c *call) askDocker(path string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return c.dialDocker(ctx)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, errors.New(dockerNotRunning) //nolint:staticcheck // docker's words
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("Error response from daemon: %s: %s", resp.Status, body) //nolint:staticcheck // docker's words
	}
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	return answer, nil
}
