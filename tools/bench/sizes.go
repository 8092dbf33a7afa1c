package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// shown is how many of the binary's parts are named.
const shown = 6

// binarySizes is the size of the provider as it is released, and how much code of it is from which module. What one module alone
// would save can't be told: others use the same ones.
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
	byPart := partsOf(symbols)
	var parts []string
	for part := range byPart {
		parts = append(parts, part)
	}
	slices.SortFunc(parts, func(a, b string) int { return cmp.Or(cmp.Compare(byPart[b], byPart[a]), cmp.Compare(a, b)) })
	var notes []string
	for _, part := range parts[:min(shown, len(parts))] {
		notes = append(notes, fmt.Sprintf("%s %.1f", part, float64(byPart[part])/megabyte))
	}
	return []row{{
		what: "Size of the provider as it is released", value: float64(info.Size()) / megabyte, unit: "MB",
		note: "its code in MB: " + strings.Join(notes, ", "),
	}}, nil
}

// partsOf sums the sizes of functions by where their package is from: a module, as far as its name tells, or Go itself.
func partsOf(symbols []byte) map[string]int {
	sums := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(symbols))
	for lines.Scan() {
		fields := strings.Fields(lines.Text()) // address, size, type, name
		if len(fields) < 4 || !strings.EqualFold(fields[2], "t") {
			continue
		}
		if size, err := strconv.Atoi(fields[1]); err == nil {
			sums[partOf(fields[3])] += size
		}
	}
	return sums
}

// partOf is the module of a symbol such as "github.com/a/b/c.(*T).M", as far as that can be told by its name.
func partOf(symbol string) string {
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
