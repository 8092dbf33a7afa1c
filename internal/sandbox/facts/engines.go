package facts

import "bytes"

// An Engine is what a container engine reports about itself.
type Engine struct {
	Recorded string            `json:"recorded"`
	Source   string            `json:"source"`
	API      string            `json:"api"`     // the newest version of Docker's API that it speaks
	MinAPI   string            `json:"min_api"` // the oldest
	Headers  map[string]string `json:"headers"` // of every answer
	Version  map[string]any    `json:"version"` // GET /version
	Info     map[string]any    `json:"info"`    // GET /info, without what changes
}

// FindEngine returns "docker", or "podman" of a release. The caller may change it.
func FindEngine(name, release string) Engine {
	var engine Engine
	data, _ := files.ReadFile("engines/" + name + ".json")
	_ = Decode(bytes.ReplaceAll(data, []byte("{release}"), []byte(release)), &engine) // TestDataIsRead
	return engine
}
