// Package architecture contains only tests, of the rules of the repository: which package may import which, which may
// rent and destroy, and what texts must not contain. Every rule is a pure function that returns a list of complaints,
// and has a test that shows that it can fail.
package architecture
