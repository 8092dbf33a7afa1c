//go:build !unix

package rental

// sandboxMain does nothing: the sandbox's machines need a Unix.
func sandboxMain() {}
