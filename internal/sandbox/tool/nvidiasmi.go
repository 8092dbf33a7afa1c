package tool

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// Exit codes of nvidia-smi (its manual, RETURN VALUE).
const (
	smiInvalidArgument = 2
	smiNotFound        = 6
	smiDriverNotLoaded = 9
	smiMismatch        = 18 // not in the manual; from public logs
)

const smiNoDriver = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. " +
	"Make sure that the latest NVIDIA driver is installed and running.\n\n"

// nvidiaSMI prints the table, -L, --query-gpu and --query-compute-apps, for all GPUs or
// those of -i. Like the real one it prints errors to standard output.
func nvidiaSMI(c *call) int {
	if !driverLoaded(c.facts, time.Now()) {
		if c.facts.DriverMismatch {
			c.printf("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: %s\n", smiBranch(c.facts.DriverVersion))
			return smiMismatch
		}
		c.printf("%s", smiNoDriver)
		return smiDriverNotLoaded
	}
	order, problem := parseSMI(c.args)
	if problem != "" {
		c.printf("%s\n", problem)
		return smiInvalidArgument
	}
	gpus, err := smiGPUs(c)
	if err != nil {
		return c.failf(1, "nvidia-smi: %v", err)
	}
	if len(gpus) == 0 {
		c.printf("No devices were found\n")
		return smiNotFound
	}
	if gpus, problem = selectGPUs(gpus, order.ids); problem != "" {
		c.printf("%s\n", problem)
		return smiNotFound
	}
	return order.print(c, gpus)
}

// smiBranch is a version without its last part.
func smiBranch(driver string) string {
	major, rest, _ := strings.Cut(driver, ".")
	minor, _, _ := strings.Cut(rest, ".")
	return major + "." + minor
}

func driverLoaded(facts machinefs.Facts, now time.Time) bool {
	return facts.Driver != machinefs.DriverBuilding || !facts.DriverReadyAt.IsZero() && !now.Before(facts.DriverReadyAt)
}

// smiOrder is a parsed command line.
type smiOrder struct {
	list              bool
	query, apps       string // comma-separated fields
	format            string
	noHeader, noUnits bool
	ids               []string
}

func (o *smiOrder) print(c *call, gpus []smiGPU) int {
	switch {
	case o.list:
		for _, gpu := range gpus {
			c.printf("GPU %d: %s (UUID: %s)\n", gpu.index, gpu.Name, gpu.UUID)
		}
		return 0
	case o.query != "" || o.apps != "":
		return smiQuery(c, o, gpus)
	}
	smiTable(c, gpus)
	return 0
}

func parseSMI(args []string) (order *smiOrder, problem string) {
	order = &smiOrder{}
	known := []string{"-L --list-gpus", "-i --id=", "--format=", "--query-gpu=", "--query-compute-apps="}
	rest, bad := getopt(args, known, func(name, value string) {
		switch name {
		case "-L":
			order.list = true
		case "-i":
			order.ids = strings.Split(value, ",")
		case "--format":
			order.format = value
		case "--query-gpu":
			order.query = value
		case "--query-compute-apps":
			order.apps = value
		}
	}, nil)
	if len(rest) > 0 && bad == nil {
		bad = &badOption{option: rest[0]}
	}
	switch {
	case bad == nil:
		problem = order.check()
		return order, problem
	case bad.missing:
		return nil, fmt.Sprintf("Option %s is missing its value. Please run 'nvidia-smi -h' for help.", bad.option)
	}
	return nil, "Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\nUnknown option: " + bad.option
}

func (o *smiOrder) check() string {
	if o.query == "" && o.apps == "" {
		return ""
	}
	if o.format == "" {
		return "\"--format=\" switch is missing. Please run 'nvidia-smi -h' for help."
	}
	csv := false
	for part := range strings.SplitSeq(o.format, ",") {
		switch strings.TrimSpace(part) {
		case "csv":
			csv = true
		case "noheader":
			o.noHeader = true
		case "nounits":
			o.noUnits = true
		default:
			return fmt.Sprintf("Format %q is not a valid format. Please run 'nvidia-smi -h' for help.", part)
		}
	}
	if !csv {
		return "Format \"csv\" is missing. Please run 'nvidia-smi -h' for help."
	}
	return ""
}

// smiApp is one process's memory on one GPU.
type smiApp struct {
	pid  int
	name string
	mib  int
}

// smiGPU is a GPU and the processes that use it.
type smiGPU struct {
	machinefs.GPU

	index int
	used  int // MiB
	apps  []smiApp
}

func (g smiGPU) busID() string { return fmt.Sprintf("00000000:%02X:00.0", g.index+1) }

// heldPID is the made-up process that holds GPU.HeldMiB.
const heldPID = 4_190_001

func smiGPUs(c *call) ([]smiGPU, error) {
	claims, err := c.root.Claims()
	if err != nil {
		return nil, err
	}
	gpus := make([]smiGPU, 0, len(c.facts.GPUs))
	for index, fact := range c.facts.GPUs {
		gpu := smiGPU{GPU: fact, index: index, used: fact.HeldMiB}
		if fact.HeldMiB > 0 && !c.facts.Container { // containers don't see processes of other containers
			gpu.apps = append(gpu.apps, smiApp{pid: heldPID, name: "python3", mib: fact.HeldMiB})
		}
		for _, claim := range claims {
			if mib, ok := claim.MiB[index]; ok {
				gpu.used += mib
				gpu.apps = append(gpu.apps, smiApp{pid: claim.PID, name: claim.Name, mib: mib})
			}
		}
		gpu.used = min(gpu.used, fact.MemoryMiB)
		gpus = append(gpus, gpu)
	}
	return gpus, nil
}

// selectGPUs returns the GPUs that ids name by index, UUID or bus id; no ids mean all.
func selectGPUs(gpus []smiGPU, ids []string) (chosen []smiGPU, problem string) {
	if len(ids) == 0 {
		return gpus, ""
	}
	for _, id := range ids {
		at := slices.IndexFunc(gpus, func(gpu smiGPU) bool {
			return id == strconv.Itoa(gpu.index) || id == gpu.UUID || id == gpu.busID()
		})
		if at < 0 {
			return nil, fmt.Sprintf("No devices were found for id %q", id)
		}
		chosen = append(chosen, gpus[at])
	}
	return chosen, ""
}
