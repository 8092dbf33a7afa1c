package main

import (
	"os"
	"runtime"
	"syscall"
)

// peakOf is the most memory that an ended process held, in bytes. That includes the little that this process held when it forked.
// Linux counts it in KB, macOS in bytes.
func peakOf(ended *os.ProcessState) int64 {
	usage, ok := ended.SysUsage().(*syscall.Rusage)
	switch {
	case !ok:
		return 0
	case runtime.GOOS == "darwin":
		return usage.Maxrss
	default:
		return usage.Maxrss * 1024
	}
}
