package tool

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

const notAvailable = "[N/A]"

// smiLine is the subject of a line: a GPU, or one process's memory on it.
type smiLine struct {
	facts machinefs.Facts
	smiGPU
	app smiApp
}

// smiField is a field of a query.
type smiField struct {
	title string // in the header; "" = the field's name
	unit  string
	value func(l smiLine) string // without the unit
	// sensor fields are not available on many virtual GPUs.
	sensor bool
}

var (
	smiTime  = smiField{value: func(smiLine) string { return time.Now().Format("2006/01/02 15:04:05.000") }}
	smiName  = smiField{title: "name", value: func(l smiLine) string { return l.Name }}
	smiUUID  = smiField{title: "uuid", value: func(l smiLine) string { return l.UUID }}
	smiBusID = smiField{title: "pci.bus_id", value: func(l smiLine) string { return l.busID() }}
	smiUsed  = smiField{title: "used_gpu_memory", unit: "MiB", value: func(l smiLine) string { return strconv.Itoa(l.app.mib) }}
	smiApps  = smiField{title: "process_name", value: func(l smiLine) string { return l.app.name }}
	smiIdle  = smiField{unit: "%", sensor: true, value: func(smiLine) string { return "0" }}
)

// gpuFields are the fields of --query-gpu (nvidia-smi --help-query-gpu) that the
// sandbox knows.
var gpuFields = map[string]smiField{
	"timestamp": smiTime, "name": smiName, "gpu_name": smiName, "uuid": smiUUID, "gpu_uuid": smiUUID,
	"pci.bus_id": smiBusID, "gpu_bus_id": smiBusID, "utilization.gpu": smiIdle, "utilization.memory": smiIdle,
	"driver_version": {value: func(l smiLine) string { return l.facts.DriverVersion }},
	"count":          {value: func(l smiLine) string { return strconv.Itoa(len(l.facts.GPUs)) }},
	"index":          {value: func(l smiLine) string { return strconv.Itoa(l.index) }},
	"compute_cap":    {value: func(l smiLine) string { return l.ComputeCapability }},
	"memory.total":   {unit: "MiB", value: func(l smiLine) string { return strconv.Itoa(l.MemoryMiB) }},
	"memory.used":    {unit: "MiB", value: func(l smiLine) string { return strconv.Itoa(l.used) }},
	"memory.free":    {unit: "MiB", value: func(l smiLine) string { return strconv.Itoa(l.MemoryMiB - l.used) }},
	"power.limit":    {unit: "W", sensor: true, value: func(smiLine) string { return "450.00" }},
	"power.draw": {unit: "W", sensor: true, value: func(l smiLine) string {
		_, _, watts := l.sensors()
		return fmt.Sprintf("%.2f", watts)
	}},
	"temperature.gpu": {sensor: true, value: func(l smiLine) string {
		_, temperature, _ := l.sensors()
		return temperature
	}},
}

// leftOut are beginnings of fields that a real nvidia-smi has, which the sandbox must not call invalid.
var leftOut = []string{
	"clocks.", "compute_mode", "display_", "ecc.", "fan.", "memory.reserved", "mig.", "persistence_mode", "pstate", "serial", "vbios_",
}

// appFields are the fields of --query-compute-apps that the sandbox knows.
var appFields = map[string]smiField{
	"timestamp": smiTime, "process_name": smiApps, "name": smiApps, "used_memory": smiUsed, "used_gpu_memory": smiUsed,
	"gpu_name":   {value: smiName.value},
	"gpu_bus_id": {value: smiBusID.value},
	"gpu_uuid":   {value: smiUUID.value},
	"pid":        {value: func(l smiLine) string { return strconv.Itoa(l.app.pid) }},
}

func smiQuery(c *call, order *smiOrder, gpus []smiGPU) int {
	known, lines := gpuFields, []smiLine{}
	if order.query == "" {
		known = appFields
	}
	for _, gpu := range gpus {
		if order.query != "" {
			lines = append(lines, smiLine{facts: c.facts, smiGPU: gpu})
			continue
		}
		for _, app := range gpu.apps {
			lines = append(lines, smiLine{c.facts, gpu, app})
		}
	}
	names := strings.Split(order.query+order.apps, ",")
	titles := make([]string, 0, len(names))
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
		field, ok := known[names[i]]
		if !ok && slices.ContainsFunc(leftOut, func(beginning string) bool { return strings.HasPrefix(names[i], beginning) }) {
			return c.failf(smiInvalidArgument, "nvidia-smi: the field %s is not part of a sandbox machine", names[i])
		}
		if !ok {
			c.printf("Field \"%s\" is not a valid field to query.\n\n", names[i])
			return smiInvalidArgument
		}
		title := cmp.Or(field.title, names[i])
		if field.unit != "" {
			title += " [" + field.unit + "]"
		}
		titles = append(titles, title)
	}
	if !order.noHeader {
		c.printf("%s\n", strings.Join(titles, ", "))
	}
	for _, line := range lines {
		values := make([]string, 0, len(names))
		for _, name := range names {
			values = append(values, known[name].of(line, order.noUnits))
		}
		c.printf("%s\n", strings.Join(values, ", "))
	}
	return 0
}

// of is the field's value in a line.
func (f smiField) of(line smiLine, noUnits bool) string {
	value := f.value(line)
	switch {
	case value == "" || f.sensor && line.NotAvailable:
		return notAvailable
	case f.unit == "" || noUnits:
		return value
	}
	return value + " " + f.unit
}

// sensors are the figures of an idle GPU, with memory in use or without.
func (g smiGPU) sensors() (pstate, temperature string, watts float64) {
	if g.used > 0 {
		return "P0", "46", 68.41
	}
	return "P8", "31", 18.07
}

const (
	smiLineOut  = "+-----------------------------------------------------------------------------------------+"
	smiLineRow  = "+-----------------------------------------+------------------------+----------------------+"
	smiTableTop = `%s
` + smiLineOut + `
| NVIDIA-SMI %-22s Driver Version: %-14s CUDA Version: %-8s |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
`
	smiTableApps = `
` + smiLineOut + `
| Processes:                                                                              |
|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |
|        ID   ID                                                               Usage      |
|=========================================================================================|
`
)

// smiTable prints what nvidia-smi shows without arguments.
func smiTable(c *call, gpus []smiGPU) {
	c.printf(smiTableTop, time.Now().Format("Mon Jan _2 15:04:05 2006"), c.facts.DriverVersion, c.facts.DriverVersion, c.facts.CUDAVersion)
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
		c.printf("| %39s | %22s | %20s |\n%s\n", "", "", "N/A", smiLineRow)
	}
	c.printf(smiTableApps)
	none := "|  No running processes found                                                             |\n"
	for _, gpu := range gpus {
		for _, app := range gpu.apps {
			none = ""
			c.printf("| %4d %5s %4s  %15d      C   %-33.33s %8dMiB |\n", gpu.index, "N/A", "N/A", app.pid, app.name, app.mib)
		}
	}
	c.printf("%s%s\n", none, smiLineOut)
}
