// Package architecture holds no code, only the tests that keep the house in
// order: which package may import which, who may rent and destroy, and what
// the repository's text must not contain. Every rule is a pure function from
// what it looks at to a list of complaints, and has a test of its own that
// shows it can fail.
package architecture
