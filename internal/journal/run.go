package journal

import (
	"fmt"
	"os"
	"strings"
)

// Run names the run of Terraform that has started this process: the parent's process ID and, on Linux, its start time. The processes of
// provider aliases belong to one run. Call it early, before the parent may have ended.
func Run() string {
	parent := os.Getppid()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", parent))
	if err != nil {
		return fmt.Sprint(parent)
	}
	// The second field is a name in parentheses that may contain anything; the 22nd field, the 20th after that name, is the start
	// time. It is needed because in containers, process IDs repeat.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return fmt.Sprint(parent)
	}
	return fmt.Sprintf("%d started %s", parent, fields[19])
}
