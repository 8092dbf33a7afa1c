package vllm

import (
	"embed"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// flagFiles are the flags of `vllm serve` by release: one flag per line, in all its spellings, and after a "=" its values where those
// are known. flags_test.go makes them from the recordings (../sandbox/facts/vllm/RELEASE: flags.json, and the parsers that a failed
// start lists).
//
//go:embed flags/*.txt
var flagFiles embed.FS

// flagTable holds the flags of one release.
type flagTable struct {
	release   string
	spellings map[string]string   // all spellings of a flag, by each of them
	choices   map[string][]string // by spelling
}

// flagTables returns the tables of the recorded releases, oldest first.
var flagTables = sync.OnceValue(func() []flagTable {
	entries, _ := flagFiles.ReadDir("flags")
	var tables []flagTable
	for _, entry := range entries {
		text, _ := flagFiles.ReadFile(path.Join("flags", entry.Name())) // never fails: it is embedded
		release := strings.TrimSuffix(entry.Name(), ".txt")
		table := flagTable{release: release, spellings: map[string]string{}, choices: map[string][]string{}}
		for line := range strings.Lines(string(text)) {
			flag, choices, _ := strings.Cut(line, "=")
			for _, spelling := range strings.Fields(flag) {
				table.spellings[spelling] = flag
				table.choices[spelling] = strings.Fields(choices)
			}
		}
		tables = append(tables, table)
	}
	slices.SortFunc(tables, func(a, b flagTable) int { return compareReleases(a.release, b.release) })
	return tables
})

// compareReleases compares two releases by their numbers. What can't be parsed is older than any release.
func compareReleases(a, b string) int {
	return slices.Compare(numbersOf(a), numbersOf(b))
}

// tablesFor returns the tables of the nearest recorded release that isn't newer, and of the next one: a release between the
// two has flags of both. It returns none for a release that is older than all of them, or that can't be parsed.
func tablesFor(release string) []flagTable {
	tables := flagTables()
	compare := func(t flagTable, release string) int { return compareReleases(t.release, release) }
	at, recorded := slices.BinarySearchFunc(tables, release, compare)
	switch {
	case recorded:
		return tables[at : at+1]
	case at == 0:
		return nil
	}
	return tables[at-1 : min(at+1, len(tables))]
}

var (
	negativeNumber = regexp.MustCompile(`^-\d+$|^-\d*\.\d+$`)
	levelShorthand = regexp.MustCompile(`^-O(?:\d|\.\w|$)`) // -O3: FlexibleArgumentParser, vllm/utils/argparse_utils.py
)

// meant returns the spellings that an argument may mean: one for a known flag, several for an ambiguous abbreviation, none
// for an unknown flag. It parses as Python's argparse does (Lib/argparse.py, _get_option_tuples), with the extensions of
// vLLM's parser (vllm/utils/argparse_utils.py): underscores for dashes, and --flag.key for a key of a JSON value.
func (t flagTable) meant(arg string) []string {
	name, _, _ := strings.Cut(arg, "=")
	if strings.HasPrefix(name, "--") {
		name, _, _ = strings.Cut(strings.ReplaceAll(name, "_", "-"), ".")
	}
	if t.spellings[name] != "" || levelShorthand.MatchString(name) {
		return []string{name}
	}
	var found []string
	for spelling := range t.spellings {
		glued := len(spelling) == 2 && strings.HasPrefix(name, spelling) // -n4
		if strings.HasPrefix(spelling, name) || glued {
			found = append(found, spelling)
		}
	}
	slices.Sort(found)
	return found
}

// isFlag reports whether argparse takes an argument as a flag and not as a value.
func isFlag(arg string) bool {
	return len(arg) > 1 && arg[0] == '-' && arg != "--" && !negativeNumber.MatchString(arg) && !strings.Contains(strings.SplitN(arg, "=", 2)[0], " ")
}

// KnowsFlag reports whether a release of vLLM surely has a flag: every recorded release near it does. It is false for "" and for
// releases older than all recorded ones.
func KnowsFlag(release, flag string) bool {
	tables := tablesFor(release)
	return len(tables) > 0 && !slices.ContainsFunc(tables, func(t flagTable) bool { return t.spellings[flag] == "" })
}

// FlagWarnings returns a warning for each argument that a release of vLLM probably refuses: what is wrong and what may be meant,
// without the argument's value. It compares with the nearest recorded releases, so a newer release may accept more. It returns none
// for "" and for releases older than all recorded ones.
func FlagWarnings(release string, args []string) []string {
	tables := tablesFor(release)
	if len(tables) == 0 {
		return nil
	}
	var warnings []string
	for _, arg := range args {
		if arg == "--" {
			break
		}
		if !isFlag(arg) {
			continue
		}
		if warning := flagWarning(tables, arg); warning != "" {
			warnings = append(warnings, warning)
		}
	}
	return warnings
}

func flagWarning(tables []flagTable, arg string) string {
	var several []string
	for _, table := range tables {
		switch meant := table.meant(arg); {
		case len(meant) == 1:
			return ""
		case len(meant) > 1:
			several = meant
		}
	}
	name, _, _ := strings.Cut(arg, "=")
	if len(several) > 0 {
		return fmt.Sprintf("%s is an abbreviation of %s: write out the one that you mean.", name, strings.Join(several, ", "))
	}
	text := fmt.Sprintf("%s is not among the recorded flags of vLLM %s.", name, tables[0].release)
	for _, table := range flagTables() {
		if table.release != tables[0].release && len(table.meant(arg)) == 1 {
			return text + fmt.Sprintf(" It is one of %s.", table.release)
		}
	}
	if nearest := tables[0].nearest(name); nearest != "" {
		text += fmt.Sprintf(" Did you mean %s?", nearest)
	}
	return text
}

// ValueWarning says that a release of vLLM probably refuses the value of a flag, and which values it is recorded to accept; "" where it
// accepts the value, or where its values aren't known.
func ValueWarning(release, flag, value string) string {
	tables := tablesFor(release)
	for _, table := range tables {
		if len(table.choices[flag]) == 0 || slices.Contains(table.choices[flag], value) {
			return ""
		}
	}
	if len(tables) == 0 {
		return ""
	}
	table := tables[len(tables)-1]
	return fmt.Sprintf("%q is not among the recorded values of vLLM %s: %s.", value, table.release, strings.Join(table.choices[flag], ", "))
}

// nearest returns the spelling that a misspelled name most likely means, "" where none is near enough.
func (t flagTable) nearest(name string) string {
	name, _, _ = strings.Cut(strings.ReplaceAll(name, "_", "-"), ".")
	best, least := "", max(2, len(name)/4)+1
	for spelling := range t.spellings {
		distance := editDistance(name, spelling)
		if distance < least || distance == least && best != "" && spelling < best {
			best, least = spelling, distance
		}
	}
	return best
}

// editDistance is the Levenshtein distance of two texts, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
