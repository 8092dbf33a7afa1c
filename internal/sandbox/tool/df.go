package tool

import (
	"fmt"
	"os"
	"path/filepath"
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

func parseDF(args []string) (order *dfOrder, problem string) {
	order = &dfOrder{unit: 1 << 10}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		problem = ""
		switch {
		case arg == "--":
			order.paths = append(order.paths, args[i+1:]...)
			return order, ""
		case arg == "-B" && i+1 < len(args):
			i++
			problem = order.setUnit(args[i])
		case strings.HasPrefix(arg, "-B"):
			problem = order.setUnit(arg[2:])
		case strings.HasPrefix(arg, "--"):
			problem = order.long(arg)
		case strings.HasPrefix(arg, "-") && len(arg) > 1:
			problem = order.letters(arg[1:])
		default:
			order.paths = append(order.paths, arg)
		}
		if problem != "" {
			return nil, problem
		}
	}
	return order, ""
}

func (o *dfOrder) long(option string) (problem string) {
	name, value, _ := strings.Cut(option, "=")
	switch name {
	case "--block-size":
		return o.setUnit(value)
	case "--output":
		o.output = strings.Split(value, ",")
		return o.checkOutput()
	case "--human-readable":
		o.human = true
	case "--portability":
		o.posix = true
	default:
		return fmt.Sprintf("unrecognized option '%s'", option)
	}
	return ""
}

func (o *dfOrder) letters(letters string) string {
	for _, letter := range letters {
		switch letter {
		case 'P':
			o.posix = true
		case 'k':
			o.unit = 1 << 10
		case 'm':
			o.unit = 1 << 20
		case 'h':
			o.human = true
		case 'T', 'a', 'l':
		default:
			return fmt.Sprintf("invalid option -- '%c'", letter)
		}
	}
	return ""
}

func (o *dfOrder) setUnit(size string) string {
	units := map[string]int64{
		"1": 1, "K": 1 << 10, "1K": 1 << 10, "1024": 1 << 10, "M": 1 << 20, "1M": 1 << 20, "G": 1 << 30, "1G": 1 << 30,
		"KB": 1e3, "MB": 1e6, "GB": 1e9,
	}
	unit, ok := units[size]
	if !ok {
		return fmt.Sprintf("invalid --block-size argument '%s'", size)
	}
	o.unit = unit
	return ""
}

func (o *dfOrder) checkOutput() string {
	for _, field := range o.output {
		switch field {
		case "source", "size", "used", "avail", "pcent", "target", "fstype":
		default:
			return fmt.Sprintf("option --output: field '%s' unknown", field)
		}
	}
	return ""
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
		fields = []string{"source", "size", "used", "avail", "pcent", "target"}
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
		titles["size"], titles["avail"] = o.unitName()+"-blocks", "Avail"
	default:
		titles["size"] = "1K-blocks"
	}
	return titles
}

func (o *dfOrder) unitName() string {
	switch o.unit {
	case 1:
		return "1B"
	case 1 << 10:
		return "1K"
	case 1 << 20:
		return "1M"
	case 1 << 30:
		return "1G"
	}
	return fmt.Sprint(o.unit)
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
