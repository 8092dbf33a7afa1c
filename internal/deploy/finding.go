package deploy

// Severity says how much a [Finding] matters.
type Severity string

// The severities.
const (
	// Blocking findings mean that the server can't work: [Launch] starts nothing.
	Blocking Severity = "error"
	// Warning findings are worth telling and stop nothing.
	Warning Severity = "warning"
)

// Finding is one thing that preflight found, with its way out.
type Finding struct {
	Severity Severity
	// Code names the sort of finding, for code: "driver", "docker", "port", "disk", …
	Code string
	// Fact is a sentence that says what is so, WayOut one that says what to do.
	Fact   string
	WayOut string
}

// String is the finding as one line.
func (f Finding) String() string {
	text := f.Fact
	if f.WayOut != "" {
		text += " " + f.WayOut
	}
	return text
}

// Facts are what preflight saw of a machine. A figure that could not be had is zero.
type Facts struct {
	// Runtime is the one that will be used, and Reason why, where the request left the choice.
	Runtime Kind
	Reason  string
	GPUs    []GPU
	// Engine is the container engine and its version, and how it was reached; "" when none was.
	Engine    string
	EngineVia string
	// DiskFreeBytes is what is free where images and weights go.
	DiskFreeBytes int64
	// Own are servers of the same owner that are there already, such as those of a launch that was killed.
	Own []Status
}
