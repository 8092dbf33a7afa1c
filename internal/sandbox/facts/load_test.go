package facts

import "testing"

// TestDataIsRead: no data file has a field that the program doesn't know.
func TestDataIsRead(t *testing.T) {
	t.Parallel()
	for name, into := range map[string]any{
		"nvidia.json": new(hardware), "iptables.json": new(Firewall), "models.json": new(checkpoints),
		"engines/docker.json": new(Engine), "engines/podman.json": new(Engine),
		"clouds/vastai.json": new(Cloud), "clouds/tensordock.json": new(Cloud), "clouds/bluelobster.json": new(Cloud),
	} {
		if err := load(name, into); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
