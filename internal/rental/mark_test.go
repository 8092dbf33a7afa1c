package rental

import (
	"strings"
	"testing"
)

func TestMark(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		m := newMark("ci.prod", "box_1-a")
		if seen[m.Token] {
			t.Fatalf("the token %s came twice", m.Token)
		}
		seen[m.Token] = true
		if got, valid := ParseMark(m.String()); !valid || got != m {
			t.Fatalf("%s is read as %v, %v", m, got, valid)
		}
	}
	for _, other := range []string{
		"", "terraform", "a/b", "a/b/c", "a/b/" + strings.Repeat("A", 32), "a/b/" + strings.Repeat("a", 31), "/b/" + token('a'),
		"a//" + token('a'), "a/b/c/" + token('a'), "a/b c/" + token('a'), "a/b/" + token('a') + "\n", "../b/" + token('a'),
	} {
		if m, valid := ParseMark(other); valid {
			t.Errorf("%q is read as %v", other, m)
		}
	}
}

func TestValidateName(t *testing.T) {
	t.Parallel()
	for name, valid := range map[string]bool{
		"a": true, "A.b_c-9": true, strings.Repeat("x", 63): true, strings.Repeat("x", 64): false, "": false, "-a": false, ".": false,
		"a/b": false, "ä": false, "a b": false, "a\n": false,
	} {
		if err := ValidateName(name); (err == nil) != valid {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzParseMark(f *testing.F) {
	f.Add("terraform/box/" + token('0'))
	f.Add("a/b/c")
	f.Add("//")
	f.Fuzz(func(t *testing.T, text string) {
		m, valid := ParseMark(text)
		if !valid {
			if m != (Mark{}) {
				t.Errorf("%q is no mark and read as %v", text, m)
			}
			return
		}
		if m.String() != text || ValidateName(m.Consumer) != nil || ValidateName(m.Name) != nil || len(m.Token) != 32 {
			t.Errorf("%q is read as %#v", text, m)
		}
		if strings.ContainsAny(m.Token, "/.\\") {
			t.Errorf("the token %q leaves the journal's directory", m.Token)
		}
	})
}

func TestNamesMadeOfAPrefix(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("a", 51)
	for _, prefix := range []string{"a", "web-", longest} {
		name := NewName(prefix)
		if ValidatePrefix(prefix) != nil || ValidateName(name) != nil || !MadeOf(prefix, name) || name == NewName(prefix) {
			t.Errorf("%q makes %q", prefix, name)
		}
		if MadeOf(prefix[:len(prefix)-1], name) && len(prefix) > 1 || MadeOf(prefix+"0", name) || MadeOf(prefix, prefix) || MadeOf(prefix, prefix+"fixed") {
			t.Errorf("%q is taken for another prefix's", name)
		}
	}
	for _, prefix := range []string{"", "-web", "web/", longest + "a"} {
		if ValidatePrefix(prefix) == nil {
			t.Errorf("%q is taken for a prefix", prefix)
		}
	}
}
