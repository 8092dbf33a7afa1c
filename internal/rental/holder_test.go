package rental

import (
	"fmt"
	"os"
	"time"
)

// holderVariable makes the test binary a process that holds a journal entry; see
// TestEntryOfAnotherProcess. Its value is the journal's directory.
const holderVariable = "RENTAL_TEST_HOLDS"

// holder writes an entry, says its mark, and lives until it is killed or its
// standard input ends.
func holder() int {
	mark := newMark("terraform", "box")
	_, err := OpenJournal(os.Getenv(holderVariable)).begin(entry{
		Version: entryVersion, Mark: mark.String(), Service: "http://fake", OfferID: "vastai-00", Asked: time.Now().UTC(),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, mark)
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0
}
