package machinefs

import (
	"bytes"
	"os"
	"strconv"
)

// Processes returns the pids of the machine's processes: those that were started
// with Env naming the machine's directory, the calling process not counted.
func (r Root) Processes() []int {
	pids, _ := r.look()
	return pids
}

// look also says whether there is a process of which it can't be told.
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

// owns looks for the machine in a process's environment, which is empty after
// the process has ended, for a moment during exec, and for the kernel's threads.
// Of those it is not known for the second: only they have a program.
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
