package tool

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// df shows the machine's one disk with the figures of its facts. A path is on it
// whether the sandbox has it or not, unless it is relative or in the machine's
// own directory and isn't there.
func df(c *call) int {
	order, problem := parseDF(c.args)
	if problem != "" {
		return c.failf(1, "df: %s\nTry 'df --help' for more information.", problem)
	}
	missing := 0
	for _, path := range order.paths {
		if !c.onDisk(path) {
			missing++
			_ = c.failf(1, "df: %s: No such file or directory", path)
		}
	}
	if missing > 0 && missing == len(order.paths) {
		return 1
	}
	c.printDisk(order, max(1, len(order.paths)-missing))
	return min(missing, 1)
}

type dfOrder struct {
	posix, human bool
	unit         int64 // bytes of a block
	output       []string
	paths        []string
}

// dfUnits are the sizes of a block.
var dfUnits = map[string]int64{
	"1": 1, "K": 1 << 10, "1K": 1 << 10, "1024": 1 << 10, "M": 1 << 20, "1M": 1 << 20, "G": 1 << 30, "1G": 1 << 30,
	"KB": 1e3, "MB": 1e6, "GB": 1e9,
}

var dfFields = []string{"source", "size", "used", "avail", "pcent", "target", "fstype"}

func parseDF(args []string) (order *dfOrder, problem string) {
	order = &dfOrder{unit: 1 << 10}
	known := []string{"-P --portability", "-h --human-readable", "-k", "-m", "-T", "-a", "-l", "-B --block-size=", "--output="}
	paths, bad := getopt(args, known, func(name, value string) {
		switch name {
		case "-P":
			order.posix = true
		case "-h":
			order.human = true
		case "-k":
			order.unit = 1 << 10
		case "-m":
			order.unit = 1 << 20
		case "-B":
			if order.unit = dfUnits[value]; order.unit == 0 {
				problem = fmt.Sprintf("invalid --block-size argument '%s'", value)
			}
		case "--output":
			order.output = strings.Split(value, ",")
			for _, field := range order.output {
				if !slices.Contains(dfFields, field) {
					problem = fmt.Sprintf("option --output: field '%s' unknown", field)
				}
			}
		}
	}, nil)
	order.paths = paths
	if bad != nil {
		problem = bad.gnu()
	}
	return order, problem
}

func (c *call) onDisk(path string) bool {
	if filepath.IsAbs(path) && !strings.HasPrefix(path, string(c.root)) {
		return true
	}
	_, err := os.Stat(path)
	return err == nil
}

func (c *call) printDisk(order *dfOrder, lines int) {
	source := "/dev/vda1"
	if c.facts.Container {
		source = "overlay"
	}
	size, free := int64(c.facts.DiskGB)<<30, int64(c.facts.DiskFreeGB)<<30
	percent := "-"
	if size > 0 {
		percent = fmt.Sprintf("%d%%", (100*(size-free)+size-1)/size)
	}
	values := map[string]string{
		"source": source, "size": order.blocks(size), "used": order.blocks(size - free), "avail": order.blocks(free),
		"pcent": percent, "target": "/", "fstype": "ext4",
	}
	titles := order.titles()
	fields := order.output
	if fields == nil {
		fields = dfFields[:6]
	}
	rows := make([][]string, 2, 1+lines)
	for _, field := range fields {
		rows[0] = append(rows[0], titles[field])
		rows[1] = append(rows[1], values[field])
	}
	for range lines - 1 {
		rows = append(rows, rows[1])
	}
	printColumns(c, rows, fields)
}

func (o *dfOrder) titles() map[string]string {
	titles := map[string]string{
		"source": "Filesystem", "used": "Used", "avail": "Available", "pcent": "Use%", "target": "Mounted on", "fstype": "Type",
	}
	switch {
	case o.human:
		titles["size"], titles["avail"] = "Size", "Avail"
	case o.posix:
		titles["size"], titles["pcent"] = fmt.Sprintf("%d-blocks", o.unit), "Capacity"
	case o.output != nil || o.unit != 1<<10:
		name := map[int64]string{1: "1B", 1 << 10: "1K", 1 << 20: "1M", 1 << 30: "1G"}[o.unit]
		titles["size"], titles["avail"] = cmp.Or(name, fmt.Sprint(o.unit))+"-blocks", "Avail"
	default:
		titles["size"] = "1K-blocks"
	}
	return titles
}

func (o *dfOrder) blocks(bytes int64) string {
	if !o.human {
		return fmt.Sprint((bytes + o.unit - 1) / o.unit)
	}
	gb := bytes >> 30
	if gb == 0 {
		return "0"
	}
	return fmt.Sprintf("%dG", gb)
}

// printColumns aligns text left and figures right.
func printColumns(c *call, rows [][]string, fields []string) {
	for _, row := range rows {
		var line strings.Builder
		for i, value := range row {
			width := 0
			for _, other := range rows {
				width = max(width, len(other[i]))
			}
			if i > 0 {
				line.WriteByte(' ')
			}
			switch fields[i] {
			case "source", "target", "fstype":
				fmt.Fprintf(&line, "%-*s", width, value)
			default:
				fmt.Fprintf(&line, "%*s", width, value)
			}
		}
		c.printf("%s\n", strings.TrimRight(line.String(), " "))
	}
}
