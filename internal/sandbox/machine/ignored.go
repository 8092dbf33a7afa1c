package machine

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// hearIgnored makes the programs of machines hear the signals that this process
// was started to ignore, as under nohup or in a shell's background: what is
// ignored is inherited, and a shell can't even set a trap on it; what is caught is
// not. This process goes on taking no notice of them.
var hearIgnored = sync.OnceFunc(func() {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
})
