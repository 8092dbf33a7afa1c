package facts

import "testing"

// TestDataIsRead: no data file has a field that the program doesn't know.
func TestDataIsRead(t *testing.T) {
	t.Parallel()
	gpus, checkpoints := nvidia(), models()
	for name, into := range map[string]any{
		"nvidia.json": &gpus, "models.json": &checkpoints,
		"engines/docker.json": new(Engine), "engines/podman.json": new(Engine),
		"clouds/vastai.json": new(Cloud), "clouds/tensordock.json": new(Cloud), "clouds/bluelobster.json": new(Cloud),
	} {
		if err := load(name, into); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
