package architecture

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// findings are the defects of an earlier system that did this job, as what has to
// hold in this one, and the tests that show it: package, then name.
var findings = []struct {
	id, holds string
	tests     []string // none where the finding can't apply
}{
	{"QA1-001", "a cancel stops what runs, and releases what was rented or started", []string{
		"internal/deploy/lifecycle TestCancelLeavesNothing",
		"internal/provider TestCancelLeavesNothing",
		"internal/rental TestCancelReleasesWhatWasRented",
		"internal/rental TestReleaseGoesOnAndSaysSo",
	}},
	{"QA1-002", "a clean-up that fails is an error with the session, its price and the way out", []string{
		"internal/deploy/lifecycle TestRemovalThatFailsIsAnError",
		"internal/provider TestDeploymentMachineThatIsAway",
		"internal/provider TestSessionNotReleased",
		"internal/rental TestFailedReleaseIsTold",
	}},
	{"QA1-003", "what failed is reported, and partial answers say which part is missing", []string{
		"internal/provider TestSessionsSayWhatIsMissing",
		"internal/provider TestShopperCannotBeReached",
		"internal/shopper TestIncompleteListsAreErrors",
	}},
	{"QA1-004", "what is shared is safe under concurrent use", []string{
		"internal/host TestConcurrentUse",
		"internal/host TestPoolUnderConcurrentUse",
		"internal/rental TestRenterIsSafeSideBySide",
		"internal/shopper TestOneClientServesManyCallers",
	}},
	{"QA1-005", "times are UTC, RFC 3339", []string{
		"internal/provider TestDeploymentStartedInUTC",
		"internal/rental TestTimesAreUTC",
		"internal/shopper TestTimesAreUTC",
	}},
	{"QA1-006", "numbers and enumerations are validated at plan time, with the bound", []string{
		"internal/provider TestInputRefusedWhenValidated",
		"internal/vllm TestBoundsAreChecked",
	}},
	{"QA1-007", "not applicable: there is no websocket, and JSON is decoded once, into types", nil},
	{"QA1-008", "cancellation and failure are told apart", []string{
		"internal/deploy/lifecycle TestCancelAndTimeoutAreToldApart",
		"internal/host TestCancellationIsNotFailure",
		"internal/provider/internal/diagnostic TestCancelIsNoFailure",
		"internal/rental TestCancelIsNotAFailure",
		"internal/shopper TestEndedContextSendsNothing",
	}},
	{"QA1-009", "not applicable: no page is served", nil},
	{"QA1-010", "no lock is held across I/O", []string{
		"internal/host TestNoLockIsHeldAcrossIO",
		"internal/host TestPoolSlowMachineHoldsUpNobody",
		"internal/rental TestNoLockIsHeldWhileTheServiceHangs",
	}},
	{"QA1-011", "every list has a bound", []string{
		"internal/deploy/lifecycle TestLogHasABound",
		"internal/host TestPoolKeepsFew",
		"internal/rental TestEverythingIsBounded",
		"internal/shopper TestListsAreBounded",
	}},
	{"QA2-001", "every body is closed, and no goroutine or connection is left", []string{
		"internal/shopper TestEveryBodyIsClosed",
		"internal/shopper TestNothingIsLeftOpen",
	}},
	{"QA2-002", "network failures are one typed error that keeps its cause", []string{
		"internal/shopper TestNetworkFailuresAreTyped",
	}},
	{"QA2-003", "a wait ends at its deadline", []string{
		"internal/host TestDialUntilEndsWithItsContext",
		"internal/pace TestWaitEndsWithItsContext",
		"internal/rental TestWaitsEndAtTheirDeadline",
		"internal/shopper TestRetriesEndByTheDeadline",
	}},
	{"QA2-004", "a context error is returned as it is, and the unexpected is never retried", []string{
		"internal/deploy/lifecycle TestUnexpectedAnswersAreNotTriedAgain",
		"internal/host TestDialUntilGivesUpOnARefusedLogin",
		"internal/rental TestUnexpectedErrorsAreNotRetried",
		"internal/shopper TestContextErrorsComeBackAsTheyAre",
		"internal/shopper TestUnexpectedErrorsAreNotRetried",
	}},
	{"QA2-005", "Retry-After is honored in both forms, ignored when malformed, capped when huge", []string{
		"internal/shopper TestRetryAfter",
	}},
	{"QA2-006", "ids are validated, and escaped in paths", []string{
		"internal/shopper TestIDsAreValidatedAndEscaped",
	}},
	{"QA2-007", "an answer without what makes a rental usable is ambiguous", []string{
		"internal/shopper TestIncompleteAnswersAreAmbiguous",
	}},
	{"QA2-008", "unknown words of a server are tolerated", []string{
		"internal/deploy/container TestUnknownStateWord",
		"internal/deploy/process TestUnknownStateWord",
		"internal/shopper TestInputIsValidatedBeforeItIsSent",
		"internal/shopper TestUnknownWordsAreTolerated",
		"internal/vllm TestEnumerations",
	}},
	{"QA2-009", "state is never made up: only what is read counts", []string{
		"internal/provider TestSessionLeavesStateOnProofOnly",
		"internal/rental TestStateIsNeverMadeUp",
		"internal/shopper TestStateIsNeverMadeUp",
	}},
	{"QA2-010", "reads are retried with backoff and jitter, and nothing else is", []string{
		"internal/shopper TestReadsAreRetried",
		"internal/shopper TestRetriesEnd",
		"internal/shopper TestWritesAreSentOnce",
	}},
	{"QA2-011", "not applicable: Go exports, and interfaces are asserted when it is compiled", nil},
	{"QA3-001", "no value of a user reaches a shell unquoted", []string{
		"internal/deploy/lifecycle TestHostileValuesStayData",
		"internal/host TestHostileValuesStayData",
		"internal/provider TestAccDeploymentHostileModel",
		"internal/sandbox/machine TestHostileCommandLinesStayWithinTheShell",
		"internal/sandbox/vllmserver TestAnyStringIsOnlyAModelsName",
		"internal/vllm TestHostileValuesStayData",
	}},
	{"QA3-002", "no secret is in a process list", []string{
		"internal/deploy/lifecycle TestRegistryCredentials",
		"internal/deploy/lifecycle TestSecretsOutOfProcessLists",
		"internal/provider TestAccDeploymentSecrets",
		"internal/vllm TestNoSecretInArguments",
		"internal/e2e TestE2EDeploymentSecrets",
	}},
	{"QA3-003", "health checks send the key inside the tunnel", []string{
		"internal/deploy/lifecycle TestHealthChecksRunNoCommand",
		"internal/provider TestHealthKeyIsOnNoCommandLine",
		"internal/vllm TestKeyIsSentAndNeverShown",
	}},
	{"QA3-004", "a launch that fails collects the log, then removes its container", []string{
		"internal/deploy/lifecycle TestFailedLaunchIsExplainedAndRemoved",
		"internal/provider TestAccDeploymentFails",
	}},
	{"QA3-005", "a process that fails is ended with its group", []string{
		"internal/deploy/lifecycle TestHungProcessIsKilledWithItsGroup",
		"internal/deploy/process TestWholeGroupIsKilled",
	}},
	{"QA3-006", "a process is identified by pid and start time, a container by id and restarts", []string{
		"internal/deploy/lifecycle TestAnotherProcessWithThePIDIsNotTheServer",
		"internal/deploy/lifecycle TestRestartLoopIsRecognized",
		"internal/deploy/process TestSupervisorRestartsAndCounts",
		"internal/sandbox/engine TestARestartLoopIsCounted",
	}},
	{"QA3-007", "private keys stay in memory", []string{
		"internal/host TestKeysStayInMemory",
	}},
	{"QA3-008", "everything that opens is closed on all paths", []string{
		"internal/host TestCloseReleasesEverything",
		"internal/host TestPoolClosesWhatIsIdle",
	}},
	{"QA3-009", "every wait for a remote end has a deadline", []string{
		"internal/host TestCloseHasADeadline",
		"internal/host TestLineCloses",
		"internal/host TestTunnelCloses",
	}},
	{"QA3-010", "a log that could not be collected is reported", []string{
		"internal/deploy/lifecycle TestUnreadableLogIsSaid",
	}},
	{"QA3-011", "remote paths are quoted", []string{
		"internal/host TestRemotePathsAreQuoted",
	}},
	{"QA3-012", "container names are Docker's own", []string{
		"internal/deploy/lifecycle TestRequestIsValidated",
		"internal/deploy/container TestIdsAreValidated",
		"internal/vllm TestImageIsValidated",
	}},
	{"QA3-013", "figures that nvidia-smi leaves out neither crash nor divide", []string{
		"internal/deploy/lifecycle TestFiguresThatAreNotTold",
	}},
	{"QA3-014", "host keys are pinned, and a change is an error", []string{
		"internal/host TestHostKeyIsPinned",
		"internal/host TestLinePinsTheHostKey",
		"internal/host TestPoolNeverHidesAChangedHostKey",
		"internal/provider TestDeploymentBastionIsPinned",
		"internal/provider TestDeploymentTrustsTheFirstHostKey",
		"internal/provider TestTunnelKeepsToItsMachine",
	}},
	{"QA3-015", "a lost connection is made again, a bounded number of times", []string{
		"internal/deploy/lifecycle TestInspectAndRemoveBearALostConnection",
		"internal/deploy/lifecycle TestLaunchBearsALostConnection",
		"internal/deploy/lifecycle TestLaunchTakesBackWhatALostStartMade",
		"internal/deploy/lifecycle TestReplaceBearsALossInTheMiddle",
		"internal/deploy/lifecycle TestReplaceBearsALostConnection",
		"internal/deploy/lifecycle TestRestartBearsALostConnection",
		"internal/host TestLineGivesUp",
		"internal/host TestLineLogsInAgain",
		"internal/host TestPoolRedialsWhatBroke",
		"internal/host TestRedialIsBoundedAndNothingIsRepeated",
		"internal/host TestTunnelGivesUp",
		"internal/host TestTunnelSurvivesADrop",
		"internal/provider TestDeploymentCreateLosesTheConnection",
		"internal/provider TestDeploymentUpdateLosesTheConnection",
		"internal/provider TestOwnMachineLosesTheConnection",
	}},
}

var testName = regexp.MustCompile(`\bTest[A-Z]\w+`)

// TestEveryFindingHasItsTests keeps the table true, and SECURITY.md: the tests that they name exist.
func TestEveryFindingHasItsTests(t *testing.T) {
	t.Parallel()
	root, files := tracked(t)
	declared := map[string]bool{}
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "func Test"); ok {
				test, _, _ := strings.Cut(rest, "(")
				declared[filepath.ToSlash(filepath.Dir(name))+" Test"+test], declared["Test"+test] = true, true
			}
		}
	}
	promises, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range testName.FindAllString(string(promises), -1) {
		if !declared[test] {
			t.Errorf("SECURITY.md: there is no test %s", test)
		}
	}
	if len(findings) != 37 {
		t.Errorf("the table has %d findings, want 37", len(findings))
	}
	for _, f := range findings {
		if len(f.tests) == 0 && !strings.HasPrefix(f.holds, "not applicable: ") {
			t.Errorf("%s has no test", f.id)
		}
		for _, test := range f.tests {
			if !declared[test] {
				t.Errorf("%s: there is no test %s", f.id, test)
			}
		}
	}
}
