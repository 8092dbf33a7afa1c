package vllmdeployment

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// journal is a write-ahead log of launches: nothing that Create does is saved by
// Terraform before it returns, and whether it was saved then is only known once the
// deployment is seen in state, which ends the entry. One that is still there at a
// later run's Create proves that a finished server of the same owner was left by a
// run that was killed, and isn't another deployment's. No secret is in it.
type journal struct{ dir string }

// openJournal keeps its files beside the rentals'; "" keeps none.
func openJournal(dir string) journal {
	if dir == "" {
		return journal{}
	}
	return journal{dir: filepath.Join(dir, "launches")}
}

func (j journal) path(owner string) string {
	sum := sha256.Sum256([]byte(owner))
	return filepath.Join(j.dir, hex.EncodeToString(sum[:16]))
}

// begin writes an entry before anything is started, and reports whether there was
// one already. Its error means that nothing will be known of this launch.
func (j journal) begin(owner string) (left bool, err error) {
	if j.dir == "" {
		return false, nil
	}
	_, err = os.Stat(j.path(owner))
	left = err == nil
	if left {
		return true, nil
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return false, err
	}
	file, err := os.OpenFile(j.path(owner), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return false, err
	}
	_, err = file.WriteString(owner + "\n")
	return false, errors.Join(err, file.Sync(), file.Close())
}

// end removes the entry.
func (j journal) end(owner string) error {
	if j.dir == "" {
		return nil
	}
	if err := os.Remove(j.path(owner)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
