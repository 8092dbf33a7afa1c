package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// shown is how many of the program's modules are named.
const shown = 6

// binarySizes measures the size of the released provider, and how much of its code is from each module. Removing a module would
// not save exactly that: modules share others.
func binarySizes(ctx context.Context, w *world) ([]row, error) {
	program := filepath.Join(w.dir, "released")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the provider: %w\n%s", err, out)
	}
	info, err := os.Stat(program)
	if err != nil {
		return nil, err
	}
	symbols, err := exec.CommandContext(ctx, "go", "tool", "nm", "-size", filepath.Join(w.bin, provider)).Output()
	if err != nil {
		return nil, err
	}
	byModule := codeSizes(symbols)
	modules := slices.SortedFunc(maps.Keys(byModule), func(a, b string) int {
		return cmp.Or(cmp.Compare(byModule[b], byModule[a]), cmp.Compare(a, b))
	})
	var notes []string
	for _, m := range modules[:min(shown, len(modules))] {
		notes = append(notes, fmt.Sprintf("%s %.1f", m, float64(byModule[m])/megabyte))
	}
	return []row{{
		what: "Size of the provider as it is released", value: float64(info.Size()) / megabyte, unit: "MB",
		note: "its code in MB: " + strings.Join(notes, ", "),
	}}, nil
}

// codeSizes sums the sizes of functions by the module of their package, as go tool nm -size lists them.
func codeSizes(symbols []byte) map[string]int {
	sums := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(symbols))
	for lines.Scan() {
		fields := strings.Fields(lines.Text()) // address, size, type, name
		if len(fields) < 4 || !strings.EqualFold(fields[2], "t") {
			continue
		}
		if size, err := strconv.Atoi(fields[1]); err == nil {
			sums[moduleOf(fields[3])] += size
		}
	}
	return sums
}

// moduleOf guesses the module of a symbol such as "github.com/a/b/c.(*T).M" from its name. The standard library's is "Go".
func moduleOf(symbol string) string {
	symbol = strings.TrimPrefix(symbol, "type:")
	symbol = strings.TrimLeft(symbol, ".*[]")
	first, rest, found := strings.Cut(symbol, "/")
	if !found || !strings.Contains(first, ".") {
		return "Go"
	}
	keep := 2
	if first == "github.com" || first == "golang.org" {
		keep = 3
	}
	parts := strings.Split(first+"/"+rest, "/")
	parts = parts[:min(keep, len(parts))]
	name, _, _ := strings.Cut(parts[len(parts)-1], ".")
	parts[len(parts)-1] = name
	return strings.Join(parts, "/")
}
