package vllm

// Kind names a cause of failure, for code that wants to tell them apart.
type Kind string

// Diagnosis is what a log says about a failed start.
type Diagnosis struct {
	Kind     Kind
	Cause    string   // one sentence: what went wrong
	WayOut   string   // one sentence: what to change, with the number to set where the log tells it
	Evidence []string // the log's own lines that show it, cleaned and shortened; secrets known by shape are masked
}

// Diagnose finds out why a start failed.
func Diagnose(log []string) (Diagnosis, bool) { return Diagnosis{}, false }

// Relevant returns the log's last lines that say something.
func Relevant(log []string) []string { return nil }

// Progress names the last phase.
func Progress(log []string) string { return "" }
