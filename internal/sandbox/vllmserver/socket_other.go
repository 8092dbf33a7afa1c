//go:build !linux

package vllmserver

import "os"

// listenOpenly returns nil: this system can't limit a socket to loopback.
func listenOpenly() (*os.File, error) { return nil, nil }
