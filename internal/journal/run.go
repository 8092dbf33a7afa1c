package journal

import (
	"fmt"
	"os"
	"strings"
)

// Run names the run of Terraform that has started this process: the parent's
// process id and, on Linux, when that was started. Provider aliases are processes
// of one run. It is to be asked before the parent can have ended.
func Run() string {
	parent := os.Getppid()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", parent))
	if err != nil {
		return fmt.Sprint(parent)
	}
	// The second field is a name in parentheses that may hold anything; the 22nd, the
	// 20th behind that name, is the start. Containers start the same ids again and again.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return fmt.Sprint(parent)
	}
	return fmt.Sprintf("%d started %s", parent, fields[19])
}
