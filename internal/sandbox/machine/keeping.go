package machine

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/tool"
)

// shared is what all machines of this process share, made for the first one. Once the
// process has ended, the keeper removes it and exits.
var shared sharing

type sharing struct {
	mu       sync.Mutex // also held while the rest is made or removed
	keeper   *tool.Keeper
	shade    string // see machinefs.MakeShade; also has the programs of every machine
	machines int
}

// Finish ends what this process's machines share, a small process and a folder, which
// otherwise go just after this process has ended. It does nothing while there are
// machines. Machines can be started after it.
func Finish() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.machines > 0 {
		return nil
	}
	return shared.end()
}

// watch prepares a new machine; forget is its counterpart.
func (s *sharing) watch(root machinefs.Root) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeper == nil {
		if err := s.begin(); err != nil {
			return errors.Join(err, s.end())
		}
	}
	if err := errors.Join(s.keeper.Watch(root), root.Shade(s.shade)); err != nil {
		return err
	}
	s.machines++
	return nil
}

func (s *sharing) forget(root machinefs.Root) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machines--
	return s.keeper.Forget(root)
}

func (s *sharing) begin() error {
	keeper, err := tool.StartKeeper()
	if err != nil {
		return err
	}
	s.keeper = keeper
	if s.shade, err = os.MkdirTemp("", "shopper-sandbox-path-"); err != nil {
		return err
	}
	// For the keeper it is a machine without processes: a folder to remove.
	if err := keeper.Watch(machinefs.Root(s.shade)); err != nil {
		return err
	}
	return errors.Join(
		machinefs.MakeShade(s.shade, tool.Hidden()),
		linkPrograms(filepath.Join(s.shade, machinefs.ShadeBin), tool.Everywhere()))
}

func (s *sharing) end() error {
	if s.keeper == nil {
		return nil
	}
	var err error
	if s.shade != "" {
		err = errors.Join(os.RemoveAll(s.shade), s.keeper.Forget(machinefs.Root(s.shade)))
	}
	err = errors.Join(err, s.keeper.Close())
	s.keeper, s.shade = nil, ""
	return err
}
