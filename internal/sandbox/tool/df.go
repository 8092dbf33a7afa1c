package tool

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// df shows the machine's one disk with the figures of its facts. Every path is on that disk, whether the sandbox has
// it or not, except a relative one, or one below the machine's own directory, that doesn't exist.
func df(c *call) int {
	order, problem := parseDF(c.args)
	if problem != "" {
		return c.failf(1, "df: %s\nTry 'df --help' for more information.", problem)
	}
	missing := 0
	for _, path := range order.paths {
		if _, err := os.Stat(path); err != nil && (!filepath.IsAbs(path) || strings.HasPrefix(path, string(c.root))) {
			missing++
			_ = c.failf(1, "df: %s: No such file or directory", path)
		}
	}
	if missing == 0 || missing < len(order.paths) {
		c.printDisk(order, max(1, len(order.paths)-missing))
	}
	return min(missing, 1)
}

type dfOrder struct {
	posix, human bool
	unit         int64 // bytes of a block
	output       []string
	paths        []string
}

// dfUnits are the sizes of a block.
var dfUnits = map[string]int64{"1": 1, "1K": 1 << 10, "K": 1 << 10, "1M": 1 << 20, "M": 1 << 20, "1G": 1 << 30, "G": 1 << 30}

var dfFields = []string{"source", "size", "used", "avail", "pcent", "target"}

func parseDF(args []string) (order *dfOrder, problem string) {
	order = &dfOrder{unit: 1 << 10, output: dfFields}
	paths, bad := getopt(args, []string{"-P --portability", "-h --human-readable", "-k", "-B --block-size=", "--output="}, func(name, value string) {
		switch name {
		case "-P":
			order.posix = true
		case "-h":
			order.human = true
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

// printDisk prints the titles and that many lines, text aligned left and figures right.
func (c *call) printDisk(order *dfOrder, lines int) {
	size, free := int64(c.facts.DiskGB)<<30, int64(c.facts.DiskFreeGB)<<30
	values := map[string]string{
		"source": "/dev/vda1", "size": order.blocks(size), "used": order.blocks(size - free), "avail": order.blocks(free),
		"pcent": "-", "target": "/",
	}
	if c.facts.Container {
		values["source"] = "overlay"
	}
	if size > 0 {
		values["pcent"] = fmt.Sprintf("%d%%", (100*(size-free)+size-1)/size)
	}
	titles := order.titles()
	for _, row := range slices.Concat([]map[string]string{titles}, slices.Repeat([]map[string]string{values}, lines)) {
		var columns []string
		for _, field := range order.output {
			width := max(len(titles[field]), len(values[field]))
			if field == "source" || field == "target" {
				width = -width
			}
			columns = append(columns, fmt.Sprintf("%*s", width, row[field]))
		}
		c.printf("%s\n", strings.TrimRight(strings.Join(columns, " "), " "))
	}
}

func (o *dfOrder) titles() map[string]string {
	titles := map[string]string{
		"source": "Filesystem", "size": "1K-blocks", "used": "Used", "avail": "Available", "pcent": "Use%", "target": "Mounted on",
	}
	switch {
	case o.human:
		titles["size"], titles["avail"] = "Size", "Avail"
	case o.posix:
		titles["size"], titles["pcent"] = fmt.Sprintf("%d-blocks", o.unit), "Capacity"
	case len(o.output) < len(dfFields) || o.unit != 1<<10:
		name := map[int64]string{1: "1B", 1 << 10: "1K", 1 << 20: "1M", 1 << 30: "1G"}[o.unit]
		titles["size"], titles["avail"] = name+"-blocks", "Avail"
	}
	return titles
}

func (o *dfOrder) blocks(bytes int64) string {
	switch {
	case !o.human:
		return fmt.Sprint((bytes + o.unit - 1) / o.unit)
	case bytes == 0:
		return "0"
	}
	return fmt.Sprintf("%dG", bytes>>30)
}
