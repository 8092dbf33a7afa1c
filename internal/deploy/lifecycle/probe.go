package lifecycle

import (
	"cmp"
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
	mount string // mount point, "" if unknown
	free  int64  // bytes; -1 if unknown
}

// disksOf returns the disks of two directories, which may not exist yet.
func disksOf(ctx context.Context, machine deploy.Machine, first, second string) (disk, disk, error) {
	const script = `for p; do
	while [ ! -e "$p" ] && [ "${p%/*}" != "$p" ]; do p=${p%/*}; done
	df -Pk -- "${p:-/}"
	echo "end of a disk"
done`
	result, err := machine.Run(ctx, host.Command{Args: []string{"sh", "-c", script, "sh", first, second}})
	one, two, _ := strings.Cut(result.Stdout, "end of a disk\n")
	two, _, _ = strings.Cut(two, "end of a disk\n")
	return parseDF(one), parseDF(two), err
}

// parseDF parses df's POSIX output: a header, then device, size, used, available, capacity, mount point.
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

//go:embed kills.sh
var killsScript string

// killsTimeout is short, because the counters only explain a failure.
const killsTimeout = 15 * time.Second

// CountKills reads the machine's counters, as far as possible.
func CountKills(ctx context.Context, machine deploy.Machine) deploy.Kills {
	ctx, cancel := context.WithTimeout(ctx, killsTimeout)
	defer cancel()
	result, err := machine.Run(ctx, host.Command{Args: []string{"sh"}, Stdin: strings.NewReader(killsScript)})
	if err != nil {
		return deploy.Kills{}
	}
	facts := deploy.Facts(result.Stdout)
	count := func(key string) *int {
		n, err := strconv.Atoi(facts[key])
		if err != nil {
			return nil
		}
		return &n
	}
	own := count("cgroup2")
	return deploy.Kills{Own: cmp.Or(own, count("cgroup1")), OwnOnly: own != nil, Kernel: count("kernel"), Line: facts["line"]}
}

// since is by how much a counter has grown. It is not ok if a reading is missing, or the machine was rebooted in between.
func since(before, after *int) (int, bool) {
	if before == nil || after == nil || *after < *before {
		return 0, false
	}
	return *after - *before, true
}

// verdict decides by the kernel's counters before and after whether it has killed a part of the server, and returns its log line.
func verdict(status deploy.Status, before, after deploy.Kills) (vllm.Kill, string) {
	own, ownKnown := since(before.Own, after.Own)
	kernel, kernelKnown := since(before.Kernel, after.Kernel)
	line := after.Line
	if line == before.Line {
		line = "" // from before
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

// ExplainDeath completes a diagnosis that only says that a part of vLLM died, by the kernel's counters before the start and after the
// death. It returns any other diagnosis unchanged.
func ExplainDeath(diagnosis vllm.Diagnosis, status deploy.Status, before, after deploy.Kills) vllm.Diagnosis {
	if diagnosis.Kind == vllm.KindEngineDied || diagnosis.Kind == vllm.KindKilled {
		diagnosis.Cause, diagnosis.WayOut = vllm.ExplainKilled(verdict(status, before, after))
	}
	return diagnosis
}

// driverBeingBuilt reports whether the machine is installing software, which may be the driver.
func driverBeingBuilt(ctx context.Context, machine deploy.Machine) (bool, error) {
	result, err := machine.Run(ctx, host.Command{Args: []string{"sh", "-s"}, Stdin: strings.NewReader(buildingScript)})
	if err != nil {
		return false, err
	}
	return result.ExitCode == 0 && strings.TrimSpace(result.Stdout) != "", nil
}

//go:embed building.sh
var buildingScript string
