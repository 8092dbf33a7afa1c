//go:build !linux

package vllmserver

import "os"

// listenOpenly does nothing where a socket can't be kept from the network.
func listenOpenly() (*os.File, error) { return nil, nil }
