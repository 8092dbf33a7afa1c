package container

import (
	"testing"

	"github.com/moby/moby/api/types/system"
)

func TestInContainerd(t *testing.T) {
	t.Parallel()
	store := [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
	for name, test := range map[string]struct {
		info system.Info
		want bool
	}{
		"overlay2":            {system.Info{DriverStatus: [][2]string{{"Backing Filesystem", "extfs"}}}, false},
		"containerd":          {system.Info{DriverStatus: store, Containerd: &system.ContainerdInfo{Address: "/run/containerd/containerd.sock"}}, true},
		"an address not told": {system.Info{DriverStatus: store}, true},
		"Docker's containerd": {system.Info{DriverStatus: store, Containerd: &system.ContainerdInfo{Address: "/var/run/docker/containerd/containerd.sock"}}, false},
	} {
		if got := inContainerd(test.info); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
