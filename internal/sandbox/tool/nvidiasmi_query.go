package tool

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

const notAvailable = "[N/A]"

// smiField is a field that can be asked for: its unit, if it has one, and its
// name in the header where that is another.
type smiField struct {
	unit  string
	title string
}

// smiRow is the values of one line by field name, without units.
type smiRow map[string]string

// gpuFields are the fields of --query-gpu (nvidia-smi --help-query-gpu) that the
// sandbox knows.
var gpuFields = map[string]smiField{
	"timestamp": {}, "driver_version": {}, "count": {},
	"name": {}, "gpu_name": {title: "name"}, "index": {}, "uuid": {}, "gpu_uuid": {title: "uuid"}, "serial": {},
	"pci.bus_id": {}, "gpu_bus_id": {title: "pci.bus_id"}, "pstate": {}, "compute_mode": {}, "compute_cap": {},
	"persistence_mode": {}, "display_active": {}, "display_mode": {}, "mig.mode.current": {},
	"memory.total": {unit: "MiB"}, "memory.reserved": {unit: "MiB"}, "memory.used": {unit: "MiB"}, "memory.free": {unit: "MiB"},
	"utilization.gpu": {unit: "%"}, "utilization.memory": {unit: "%"}, "fan.speed": {unit: "%"},
	"temperature.gpu": {}, "power.draw": {unit: "W"}, "power.limit": {unit: "W"},
	"clocks.sm": {unit: "MHz"}, "clocks.gr": {unit: "MHz"}, "clocks.mem": {unit: "MHz"},
	"ecc.mode.current": {}, "vbios_version": {},
}

// appFields are the fields of --query-compute-apps that the sandbox knows.
var appFields = map[string]smiField{
	"timestamp": {}, "gpu_name": {}, "gpu_bus_id": {}, "gpu_serial": {}, "gpu_uuid": {},
	"pid": {}, "process_name": {}, "name": {title: "process_name"},
	"used_memory": {unit: "MiB", title: "used_gpu_memory"}, "used_gpu_memory": {unit: "MiB"},
}

func smiQuery(c *call, order *smiOrder, known map[string]smiField, rows []smiRow) int {
	fields := strings.Split(order.query+order.apps, ",")
	for i, field := range fields {
		fields[i] = strings.TrimSpace(field)
		if _, ok := known[fields[i]]; !ok {
			c.printf("Field \"%s\" is not a valid field to query.\n\n", fields[i])
			return smiInvalidArgument
		}
	}
	if !order.noHeader {
		c.printf("%s\n", smiHeader(fields, known))
	}
	for _, row := range rows {
		values := make([]string, 0, len(fields))
		for _, field := range fields {
			values = append(values, smiValue(row[field], known[field].unit, order.noUnits))
		}
		c.printf("%s\n", strings.Join(values, ", "))
	}
	return 0
}

func smiHeader(fields []string, known map[string]smiField) string {
	titles := make([]string, 0, len(fields))
	for _, field := range fields {
		title := cmp.Or(known[field].title, field)
		if unit := known[field].unit; unit != "" {
			title += " [" + unit + "]"
		}
		titles = append(titles, title)
	}
	return strings.Join(titles, ", ")
}

func smiValue(value, unit string, noUnits bool) string {
	if value == "" {
		return notAvailable
	}
	if unit == "" || noUnits || value == notAvailable {
		return value
	}
	return value + " " + unit
}

func smiRows(facts machinefs.Facts, gpus []smiGPU) []smiRow {
	now := time.Now().Format("2006/01/02 15:04:05.000")
	rows := make([]smiRow, 0, len(gpus))
	for _, gpu := range gpus {
		row := smiRow{
			"timestamp":      now,
			"driver_version": facts.DriverVersion,
			"count":          strconv.Itoa(len(facts.GPUs)),
			"index":          strconv.Itoa(gpu.index),
			"name":           gpu.Name, "gpu_name": gpu.Name,
			"uuid": gpu.UUID, "gpu_uuid": gpu.UUID,
			"pci.bus_id": gpu.busID(), "gpu_bus_id": gpu.busID(),
			"compute_cap":      gpu.ComputeCapability,
			"compute_mode":     "Default",
			"persistence_mode": "Enabled", "display_active": "Disabled", "display_mode": "Disabled",
			"memory.total": strconv.Itoa(gpu.MemoryMiB), "memory.reserved": "0",
			"memory.used": strconv.Itoa(gpu.used), "memory.free": strconv.Itoa(gpu.MemoryMiB - gpu.used),
			"vbios_version": "95.02.3c.00.8c",
		}
		if !gpu.NotAvailable {
			gpu.addSensors(row)
		}
		rows = append(rows, row)
	}
	return rows
}

// addSensors sets what passthrough and virtual GPUs often don't tell.
func (g smiGPU) addSensors(row smiRow) {
	pstate, temperature, watts := g.sensors()
	maps.Copy(row, smiRow{
		"pstate": pstate, "temperature.gpu": temperature, "power.draw": fmt.Sprintf("%.2f", watts), "power.limit": "450.00",
		"utilization.gpu": "0", "utilization.memory": "0", "fan.speed": "30",
		"clocks.sm": "2520", "clocks.gr": "2520", "clocks.mem": "10501",
	})
}

// sensors are what a GPU shows that waits for work, with memory in use or without.
func (g smiGPU) sensors() (pstate, temperature string, watts float64) {
	if g.used > 0 {
		return "P0", "46", 68.41
	}
	return "P8", "31", 18.07
}

func smiAppRows(gpus []smiGPU) []smiRow {
	now := time.Now().Format("2006/01/02 15:04:05.000")
	var rows []smiRow
	for _, gpu := range gpus {
		for _, app := range gpu.apps {
			used := strconv.Itoa(app.mib)
			rows = append(rows, smiRow{
				"timestamp": now, "gpu_name": gpu.Name, "gpu_bus_id": gpu.busID(), "gpu_uuid": gpu.UUID,
				"pid": strconv.Itoa(app.pid), "process_name": app.name, "name": app.name,
				"used_memory": used, "used_gpu_memory": used,
			})
		}
	}
	return rows
}

// smiTable prints what nvidia-smi shows without arguments.
func smiTable(c *call, gpus []smiGPU) {
	line := "+-----------------------------------------------------------------------------------------+"
	mid := "|-----------------------------------------+------------------------+----------------------+"
	c.printf("%s\n%s\n", time.Now().Format("Mon Jan _2 15:04:05 2006"), line)
	c.printf("| NVIDIA-SMI %-22s Driver Version: %-14s CUDA Version: %-8s |\n",
		c.facts.DriverVersion, c.facts.DriverVersion, c.facts.CUDAVersion)
	c.printf("%s\n", mid)
	c.printf("| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |\n")
	c.printf("| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |\n")
	c.printf("|                                         |                        |               MIG M. |\n")
	c.printf("|=========================================+========================+======================|\n")
	for _, gpu := range gpus {
		perf, temp, watts := gpu.sensors()
		fan, power, util := "30%", fmt.Sprintf("%.0fW / 450W", watts), "0%"
		temp += "C"
		if gpu.NotAvailable {
			fan, temp, perf, power, util = "N/A", "N/A", "N/A", "N/A / N/A", "N/A"
		}
		memory := fmt.Sprintf("%dMiB / %6dMiB", gpu.used, gpu.MemoryMiB)
		c.printf("| %3d  %-27.27s     On | %22s | %20s |\n", gpu.index, gpu.Name, gpu.busID()+" Off", "N/A")
		c.printf("| %3s  %4s %6s %22s | %22s | %8s %11s |\n", fan, temp, perf, power, memory, util, "Default")
		c.printf("| %39s | %22s | %20s |\n%s\n", "", "", "N/A", strings.ReplaceAll(mid, "|", "+"))
	}
	c.printf("\n%s\n", line)
	c.printf("| Processes:                                                                              |\n")
	c.printf("|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |\n")
	c.printf("|       %[1]s  %[1]s                                                               Usage      |\n", " ID")
	c.printf("|=========================================================================================|\n")
	smiTableApps(c, gpus)
	c.printf("%s\n", line)
}

func smiTableApps(c *call, gpus []smiGPU) {
	none := true
	for _, gpu := range gpus {
		for _, app := range gpu.apps {
			none = false
			c.printf("| %4d %5s %4s  %15d      C   %-33.33s %8dMiB |\n", gpu.index, "N/A", "N/A", app.pid, app.name, app.mib)
		}
	}
	if none {
		c.printf("|  No running processes found                                                             |\n")
	}
}
