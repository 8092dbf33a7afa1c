package vllmdeployment

import "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"

// launchEntry is the ID of a launch's only entry in the journal. Terraform saves nothing before Create returns, and only a
// later read of the deployment proves that it was saved, which removes the entry. If a later run's Create still finds the
// entry, a finished server of the same owner was left by a run that was killed, and belongs to no other deployment.
const launchEntry = "launch"

func (r *Resource) journal() *journal.Journal {
	if r.data == nil {
		return nil
	}
	return r.data.Journal
}

func launchName(owner string) string { return "launch of " + owner }

// begin writes the entry before anything is started, and reports whether there already was one. Its error means that no
// later run will know of this launch.
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
