package container

import (
	"bufio"
	"cmp"
	"context"
	_ "embed" // the script
	"errors"
	"io"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

//go:embed install.sh
var installScript string

// asRoot runs the script on its standard input as root, with an argument.
const asRoot = `if [ "$(id -u)" = 0 ]; then exec sh -eus -- "$1"; else exec sudo -n sh -eus -- "$1"; fi`

// CanInstall reports whether [Install] may work. It can't if the machine is itself a container, such as
// Vast.ai's, or has no systemd, whose program prints "none" on any other.
func CanInstall(ctx context.Context, machine deploy.Machine) (bool, error) {
	result, err := machine.Run(ctx, host.Command{Args: []string{"systemd-detect-virt", "--container"}})
	return strings.TrimSpace(result.Stdout) == "none", err
}

// Install installs Docker and, for GPUs, NVIDIA's container toolkit, if they are missing, and restarts Docker. It waits for other
// installations until ctx ends, and continues one that was interrupted. progress gets the installation's output.
func Install(ctx context.Context, machine deploy.Machine, gpus bool, progress func(string)) error {
	argument := ""
	if gpus {
		argument = "gpus"
	}
	const op = "install a container engine"
	conn, err := machine.Pipe(ctx, "sh", "-c", asRoot, "sh", argument)
	if err != nil {
		return deploy.Failed(ctx, op, err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // which ends the installation
	_, err = io.WriteString(conn, installScript)                // if it fails, the output below says why
	var last []string
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			last = append(last[max(0, len(last)-shownLines):], line)
			progress(line)
		}
	}
	err = errors.Join(err, lines.Err(), ctx.Err())
	_ = conn.Close() // it has ended, or was canceled
	if err == nil {
		return nil
	}
	e := &deploy.Error{Summary: "could not " + op, Err: errors.Join(err, errors.New(strings.Join(last, "\n")))}
	e.Explain(e.Err.Error(), installRules)
	e.WayOut = cmp.Or(e.WayOut, installAgain)
	return e
}

// shownLines is how many of a failed installation's last lines are shown.
const shownLines = 10

const installAgain = "Apply again to continue, install Docker and NVIDIA's container toolkit yourself, or use runtime = \"process\"."

// Causes lists why images can't be pulled, and why installations of a container engine fail, for the documentation.
func Causes() (images, installations []vllm.Cause) {
	installations = deploy.Causes(installRules)
	for i := range installations {
		installations[i].WayOut = cmp.Or(installations[i].WayOut, installAgain)
	}
	return deploy.Causes(imageRules), installations
}

// installRules explain the output of apt-get, sudo and curl.
var installRules = []deploy.Rule{
	deploy.NewRule(`no apt-get`, "The machine runs neither Debian nor Ubuntu.", ""),
	deploy.NewRule(`a password is required`, "The installation needs root, but sudo asks for a password.", ""),
	deploy.NewRule(`sudo: not found`, "The installation needs root, but the machine has no sudo.", ""),
	deploy.NewRule(`Unable to locate package`, "The machine's package sources lack a required package.", ""),
	deploy.NewRule(`Could not resolve|Failed to fetch`, "The machine can't reach the package servers.", ""),
	deploy.NewRule(`waiting for another installation|Waiting for cache lock`,
		"Another installation, such as the machine's first upgrade, kept dpkg locked.", ""),
}
