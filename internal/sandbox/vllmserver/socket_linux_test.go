package vllmserver

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenSocketIsTheLoopbacks: what looks open on the tester's computer isn't.
func TestOpenSocketIsTheLoopbacks(t *testing.T) {
	t.Parallel()
	socket, err := listenOpenly()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	device, err := unix.GetsockoptString(int(socket.Fd()), unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	if err != nil || device != "lo" {
		t.Errorf("device %q, %v", device, err)
	}
}
