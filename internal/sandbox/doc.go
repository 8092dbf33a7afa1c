// Package sandbox is a stand-in for the rental service ("the shopper") and the
// clouds behind it. It answers as a real shopper does, with the quirks of one,
// rents machines that can be logged in to over SSH, keeps a ledger of what every
// cloud bills, and can be told to misbehave in every way that has been seen or
// must be survived.
//
// It is used in three ways: by its program (internal/sandbox/cmd), by acceptance
// tests in their own process (Start), and by people who test their modules.
//
// Two kinds of time run in it. Dates that people see (created_at, expires_at, the
// ledger) are the computer's clock plus whatever Advance added. Everything that
// takes time (a cloud that boots a machine, the service's checks and caches) is
// stated as it is in reality and divided by Options.Speed; Advance moves that too.
package sandbox
