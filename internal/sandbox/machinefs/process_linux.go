package machinefs

import (
	"bytes"
	"os"
	"strconv"
)

// Processes returns the pids of the machine's processes, except the caller's.
func (r Root) Processes() []int {
	pids, _ := r.look()
	return pids
}

// look also returns whether there is a process of which it is unclear.
func (r Root) look() (pids []int, unclear bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, false
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		owned, known := r.owns(pid)
		if owned {
			pids = append(pids, pid)
		}
		unclear = unclear || !known
	}
	return pids, unclear
}

// owns looks for the machine in a process's environment. That is empty after the process
// has ended, for the kernel's threads, and for a moment during exec. Only in the last
// case, in which the process has a program, is it not known.
func (r Root) owns(pid int) (owned, known bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	environ, err := os.ReadFile(dir + "/environ")
	if err != nil {
		return false, true // another user's, or gone
	}
	if len(environ) == 0 {
		_, err := os.Readlink(dir + "/exe")
		return false, err != nil
	}
	want := []byte(Env + "=" + string(r))
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		if bytes.Equal(entry, want) {
			return true, true
		}
	}
	return false, true
}
