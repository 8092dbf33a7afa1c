package machine

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/tool"
)

// shared is what all machines of this process share. It is made for the first
// one and stays for those to come; when the process has ended, its keeper removes
// the rest and ends too.
var shared sharing

type sharing struct {
	mu       sync.Mutex // held while the shared things are made or removed, so that they are made once
	keeper   *tool.Keeper
	shade    string // see machinefs.MakeShade; it also holds the programs that every machine has
	machines int
}

// Finish ends at once what this process's machines share, a small process and a
// folder, which otherwise end just after the process does. Call it before exit
// where nothing may be left at that moment. It does nothing while there are
// machines, and another machine can be started after it.
func Finish() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.machines > 0 {
		return nil
	}
	return shared.end()
}

// watch gives a new machine its part of the shared things. forget ends that.
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
	// To the keeper it is like a machine without processes: a folder to remove.
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
