package lifecycle

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// disk is a file system of the machine.
type disk struct {
	mount string // where it is mounted, "" when that could not be had
	free  int64  // bytes; -1 when that could not be had
}

// diskOf is the disk that a directory is on, or will be.
func diskOf(ctx context.Context, machine deploy.Machine, directory string) (disk, error) {
	const script = `p=$1; while [ ! -e "$p" ] && [ "${p%/*}" != "$p" ]; do p=${p%/*}; done; df -Pk -- "${p:-/}"`
	result, err := machine.Run(ctx, host.Command{Args: []string{"sh", "-c", script, "sh", directory}})
	if err != nil {
		return disk{free: -1}, err
	}
	return parseDF(result.Stdout), nil
}

// parseDF reads POSIX df output: a header, then device, size, used, available, capacity, mount point.
func parseDF(output string) disk {
	unknown := disk{free: -1}
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if len(lines) < 2 {
		return unknown
	}
	fields := strings.Fields(lines[len(lines)-1])
	at := slices.IndexFunc(fields, func(field string) bool { return strings.HasSuffix(field, "%") })
	if at < 1 {
		return unknown
	}
	available, err := strconv.ParseInt(fields[at-1], 10, 64)
	if err != nil || available < 0 || available > 1<<50 {
		return unknown
	}
	return disk{mount: strings.Join(fields[at+1:], " "), free: available * 1024}
}
