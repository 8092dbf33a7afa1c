package machinefs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hostPath has the programs that a machine shares with the computer.
var hostPath = []string{"/usr/local/bin", "/usr/bin", "/bin"}

// ShadeBin is the folder of a shade (see MakeShade) for programs of all machines.
const ShadeBin = "bin-of-all"

// Path returns the PATH of a login on the machine: its own programs, those of all machines,
// then the computer's without those that Shade hides.
func (r Root) Path() string {
	dirs := make([]string, 0, 2+len(hostPath))
	dirs = append(dirs, r.Bin())
	if all := filepath.Join(r.shadeLink(), ShadeBin); exists(all) {
		dirs = append(dirs, all)
	}
	for _, dir := range hostPath {
		if shaded := filepath.Join(r.shadeLink(), dir); exists(shaded) {
			dir = shaded
		}
		dirs = append(dirs, dir)
	}
	return strings.Join(dirs, string(os.PathListSeparator))
}

// Shade hides programs of the computer, such as docker and sudo, from a machine that may
// not have them. shade is a folder of MakeShade, which many machines may share.
func (r Root) Shade(shade string) error { return os.Symlink(shade, r.shadeLink()) }

// MakeShade fills the folder shade with copies, made of links, of those directories of
// hostPath that have one of the named programs, without these programs.
func MakeShade(shade string, names []string) error {
	made := map[string]string{} // stand-ins by real directory: /bin often is /usr/bin
	for _, dir := range hostPath {
		if !slices.ContainsFunc(names, func(name string) bool { return exists(filepath.Join(dir, name)) }) {
			continue
		}
		standIn := filepath.Join(shade, dir)
		resolved, err := filepath.EvalSymlinks(dir)
		if err == nil && made[resolved] != "" {
			err = os.Symlink(made[resolved], standIn)
		} else if err == nil {
			err = fillShade(standIn, dir, names)
			made[resolved] = standIn
		}
		if err != nil {
			return fmt.Errorf("hiding programs from sandbox machines: %w", err)
		}
	}
	return nil
}

func fillShade(standIn, dir string, names []string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(standIn, 0o700); err != nil {
		return err
	}
	for _, entry := range entries {
		if slices.Contains(names, entry.Name()) {
			continue
		}
		if err := os.Symlink(filepath.Join(dir, entry.Name()), filepath.Join(standIn, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (r Root) shadeLink() string { return filepath.Join(string(r), "sys") }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
