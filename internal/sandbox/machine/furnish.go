package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/tool"
)

func (m *Machine) writeAuthorizedKeys(keys []string) error {
	path := m.authorizedKeysFile()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	var lines strings.Builder
	for _, key := range keys {
		lines.WriteString(strings.TrimSpace(key) + "\n")
	}
	return os.WriteFile(path, []byte(lines.String()), 0o600)
}

func (m *Machine) authorizedKeysFile() string {
	return filepath.Join(m.root.Home(), ".ssh", "authorized_keys")
}

// writeFacts publishes facts, and gives the machine the programs that follow from them.
func (m *Machine) writeFacts(facts machinefs.Facts) error {
	if err := m.root.WriteFacts(facts); err != nil {
		return fmt.Errorf("changing a sandbox machine: %w", err)
	}
	facts.Packages = slices.Concat(facts.Packages, m.root.Packages())
	if err := linkPrograms(m.root.Bin(), tool.Installed(facts)); err != nil {
		return fmt.Errorf("changing a sandbox machine: %w", err)
	}
	return m.placeVLLM(facts.VLLM.Installed)
}

// placeVLLM writes the metadata of the machine's vLLM to dist-packages, where an image has
// it.
func (m *Machine) placeVLLM(release string) error {
	packages := filepath.Join(string(m.root), "lib", "python3.12", "dist-packages")
	if err := os.RemoveAll(packages); err != nil || release == "" {
		return err
	}
	return os.MkdirAll(filepath.Join(packages, "vllm-"+release+".dist-info"), 0o700)
}

// linkPrograms makes the named programs the only ones of package tool in bin. Other files
// stay.
func linkPrograms(bin string, names []string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return err
	}
	for _, name := range names {
		err := os.Symlink(exe, filepath.Join(bin, name))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	entries, err := os.ReadDir(bin)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		link := filepath.Join(bin, entry.Name())
		if slices.Contains(names, entry.Name()) {
			continue
		}
		if target, err := os.Readlink(link); err == nil && target == exe {
			if err := os.Remove(link); err != nil {
				return err
			}
		}
	}
	return nil
}
