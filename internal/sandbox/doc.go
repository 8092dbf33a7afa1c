// Package sandbox is a stand-in for the rental service ("the shopper") and the
// clouds behind it. It answers as a real shopper does, quirks included. The
// machines that it rents out accept SSH. A ledger records what every cloud bills,
// and fault rules make it misbehave in every way that clients have to survive.
//
// Its program is internal/sandbox/cmd; tests start it in their own process (Start).
//
// It has two kinds of time. Dates that people see (created_at, expires_at, the
// ledger) are the computer's clock plus what Advance added. Everything that takes
// time (a machine's boot, the service's checks and caches) is stated in service time,
// as it takes in reality, and divided by Options.Speed. Advance moves both.
package sandbox
