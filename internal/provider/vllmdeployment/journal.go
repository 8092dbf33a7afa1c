package vllmdeployment

import "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"

// launchEntry is the id of a launch's one entry in the journal. Nothing that Create
// does is saved by Terraform before it returns, and whether it was saved then is
// only known once the deployment is seen in state, which ends the entry. One that is
// still there at a later run's Create proves that a finished server of the same
// owner was left by a run that was killed, and isn't another deployment's.
const launchEntry = "launch"

func (r *Resource) journal() *journal.Journal {
	if r.data == nil {
		return nil
	}
	return r.data.Journal
}

func launchName(owner string) string { return "launch of " + owner }

// begin writes an entry before anything is started, and reports whether there was
// one already. Its error means that nothing will be known of this launch.
func (r *Resource) begin(owner string) (left bool, err error) {
	name, err := r.journal().TryLock(launchName(owner))
	if err != nil {
		return false, err
	}
	defer name.Unlock()
	if entries, problems := name.Entries(); len(entries)+len(problems) > 0 {
		return true, nil
	}
	return false, name.Write(launchEntry, owner)
}

// end removes the entry.
func (r *Resource) end(owner string) error {
	if !r.journal().Knows(launchName(owner)) {
		return nil
	}
	name, err := r.journal().TryLock(launchName(owner))
	if err != nil {
		return err
	}
	defer name.Unlock()
	return name.Remove(launchEntry)
}
