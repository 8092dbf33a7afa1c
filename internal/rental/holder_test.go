package rental

import (
	"fmt"
	"os"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
)

// holderVariable makes the test binary a process that has locked a name; see
// TestEntryOfAnotherProcess. Its value is the journal's directory.
const holderVariable = "RENTAL_TEST_HOLDS"

// holder locks the name box, writes an entry, and lives until it is killed or its
// standard input ends.
func holder() int {
	r := New(newFake(), Config{Consumer: "terraform", Journal: journal.Open(os.Getenv(holderVariable), "the holder")})
	name, err := r.journal.TryLock(r.key(r.Mark("box")))
	if err == nil {
		e := &entry{
			Version: entryVersion, Mark: newMark("terraform", "box").String(), Service: r.service.URL(), Computer: r.computer,
			Run: r.journal.Run(), OfferID: "vastai-00", Asked: time.Now().UTC(), name: name,
		}
		err = e.save()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, "locked")
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0
}
