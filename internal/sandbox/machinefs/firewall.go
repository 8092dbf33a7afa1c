package machinefs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Rules returns the rules in the chain INPUT of the machine's iptables or ip6tables, in order, as -S prints them. They are
// a record, without effect.
func (r Root) Rules(program string) ([]string, error) {
	data, err := os.ReadFile(r.ruleFile(program))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return strings.FieldsFunc(string(data), func(c rune) bool { return c == '\n' }), err
}

// ChangeRules replaces the rules by what change makes of them, unless it returns an error. One process at a time does so.
func (r Root) ChangeRules(program string, change func([]string) ([]string, error)) error {
	lock, err := os.OpenFile(r.ruleFile(program)+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	rules, err := r.Rules(program)
	if err != nil {
		return err
	}
	if rules, err = change(rules); err != nil {
		return err
	}
	return replaceFile(r.ruleFile(program), []byte(strings.Join(rules, "\n")+"\n"))
}

func (r Root) ruleFile(program string) string { return filepath.Join(string(r), program+".rules") }
