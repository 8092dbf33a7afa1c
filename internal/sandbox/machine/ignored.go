package machine

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// hearIgnored catches the signals that this process was started to ignore, as under nohup
// or in a shell's background. Otherwise the programs of machines would inherit that,
// and a shell couldn't even set a trap. This process still ignores them.
var hearIgnored = sync.OnceFunc(func() {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
})
