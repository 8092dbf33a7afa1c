package lifecycle

import (
	"context"
	_ "embed" // the script
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// disk is a file system of the machine.
type disk struct {
	mount string // where it is mounted, "" when that could not be had
	free  int64  // bytes; -1 when that could not be had
}

// disksOf are the disks that two directories are on, or will be.
func disksOf(ctx context.Context, machine deploy.Machine, first, second string) (disk, disk, error) {
	const script = `for p; do
	while [ ! -e "$p" ] && [ "${p%/*}" != "$p" ]; do p=${p%/*}; done
	df -Pk -- "${p:-/}"
	echo "end of a disk"
done`
	result, err := machine.Run(ctx, host.Command{Args: []string{"sh", "-c", script, "sh", first, second}})
	if err != nil {
		return disk{free: -1}, disk{free: -1}, err
	}
	one, two, _ := strings.Cut(result.Stdout, "end of a disk\n")
	two, _, _ = strings.Cut(two, "end of a disk\n")
	return parseDF(one), parseDF(two), nil
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

// killsScript prints one counter a line, and the kernel's own last word.
//
//go:embed kills.sh
var killsScript string

// killsTimeout bounds the reading of what only explains something.
const killsTimeout = 15 * time.Second

// CountKills reads the machine's counters. What can't be read is left out.
func CountKills(ctx context.Context, machine deploy.Machine) deploy.Kills {
	ctx, cancel := context.WithTimeout(ctx, killsTimeout)
	defer cancel()
	result, err := machine.Run(ctx, host.Command{Args: []string{"sh"}, Stdin: strings.NewReader(killsScript)})
	if err != nil {
		return deploy.Kills{}
	}
	return parseKills(result.Stdout)
}

func parseKills(output string) deploy.Kills {
	var kills deploy.Kills
	for line := range strings.Lines(output) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "line" {
			kills.Line = text
		}
		count, err := strconv.Atoi(text)
		if err != nil {
			continue
		}
		switch name {
		case "cgroup2":
			kills.Own, kills.OwnOnly = &count, true
		case "cgroup1":
			kills.Own = &count
		case "kernel":
			kills.Kernel = &count
		}
	}
	return kills
}

// since is by how much a counter has grown, false where it can't be told: it wasn't read, or the machine has booted between.
func since(before, after *int) (int, bool) {
	if before == nil || after == nil || *after < *before {
		return 0, false
	}
	return *after - *before, true
}

// verdict says whether the kernel has killed a part of the server, by its counters before and after.
func verdict(status deploy.Status, before, after deploy.Kills) (vllm.Kill, string) {
	own, ownKnown := since(before.Own, after.Own)
	kernel, kernelKnown := since(before.Kernel, after.Kernel)
	line := after.Line
	if line == before.Line {
		line = "" // an older one
	}
	switch {
	case status.OOMKilled || ownKnown && own > 0:
		return vllm.KilledByKernel, line
	case ownKnown && after.OwnOnly, kernelKnown && kernel == 0:
		return vllm.KilledByOther, ""
	case kernelKnown && vllm.IsPartOf(line):
		return vllm.KilledByKernel, line
	case kernelKnown:
		return vllm.KilledPerhaps, line
	}
	return vllm.KilledUnknown, ""
}

// ExplainDeath puts what is proved in place of a diagnosis that only says that a part of vLLM died; any other one, whose
// log says more, is returned as it is. Before are the counters from before the start.
func ExplainDeath(diagnosis vllm.Diagnosis, status deploy.Status, before, after deploy.Kills) vllm.Diagnosis {
	if diagnosis.Kind == vllm.KindEngineDied || diagnosis.Kind == vllm.KindKilled {
		diagnosis.Cause, diagnosis.WayOut = vllm.ExplainKilled(verdict(status, before, after))
	}
	return diagnosis
}

// driverBeingBuilt tells whether something on the machine is installing software, a driver perhaps. It is a fixed
// script without arguments.
func driverBeingBuilt(ctx context.Context, machine deploy.Machine) (bool, error) {
	result, err := machine.Run(ctx, host.Command{Args: []string{"sh", "-s"}, Stdin: strings.NewReader(buildingScript)})
	if err != nil {
		return false, err
	}
	return result.ExitCode == 0 && strings.TrimSpace(result.Stdout) != "", nil
}

//go:embed building.sh
var buildingScript string
