package machinefs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// hostPath is where the real programs come from that a machine shares with the
// computer it is played on.
var hostPath = []string{"/usr/local/bin", "/usr/bin", "/bin"}

// Path returns the PATH of a login on the machine: its own programs, then those
// of the computer it is played on, without what Hide took away.
func (r Root) Path() string {
	dirs := []string{r.Bin()}
	for _, dir := range hostPath {
		if filtered := r.filtered(dir); exists(filtered) {
			dir = filtered
		}
		dirs = append(dirs, dir)
	}
	return strings.Join(dirs, string(os.PathListSeparator))
}

// Hide takes programs of the computer off the machine's Path. A machine without
// Docker would otherwise find the tester's own docker, and root in a container
// the tester's sudo. Directories that hold none of the names stay as they are;
// the others are replaced by links to the rest of what they hold.
func (r Root) Hide(names []string) error {
	for _, dir := range hostPath {
		if !holdsAny(dir, names) {
			continue
		}
		if err := r.filter(dir, names); err != nil {
			return fmt.Errorf("hiding programs from a sandbox machine: %w", err)
		}
	}
	return nil
}

func (r Root) filter(dir string, names []string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	hidden := make(map[string]bool, len(names))
	for _, name := range names {
		hidden[name] = true
	}
	if err := os.MkdirAll(r.filtered(dir), 0o700); err != nil {
		return err
	}
	for _, entry := range entries {
		if hidden[entry.Name()] {
			continue
		}
		link := filepath.Join(r.filtered(dir), entry.Name())
		err := os.Symlink(filepath.Join(dir, entry.Name()), link)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

func (r Root) filtered(dir string) string { return filepath.Join(string(r), "sys", dir) }

func holdsAny(dir string, names []string) bool {
	for _, name := range names {
		if exists(filepath.Join(dir, name)) {
			return true
		}
	}
	return false
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
