package rental

// holderVariable makes the test binary hold a journal entry; see TestJournalOfAnotherProcess.
const holderVariable = "RENTAL_TEST_HOLDS"

func holder() int { return 0 }
