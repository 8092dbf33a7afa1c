package machinefs

import (
	"bytes"
	"os"
	"strconv"
)

// Processes returns the pids of the machine's processes: those that were started
// with Env naming the machine's directory, the calling process not counted.
func (r Root) Processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && pid != os.Getpid() && r.owns(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// owns is false for a process that has ended, a zombie included: the environment
// of those is empty.
func (r Root) owns(pid int) bool {
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	want := []byte(Env + "=" + string(r))
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		if bytes.Equal(entry, want) {
			return true
		}
	}
	return false
}
