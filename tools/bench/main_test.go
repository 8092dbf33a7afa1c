package main

import (
	"maps"
	"strings"
	"testing"
	"time"
)

func TestTheTableSaysWhatMissedItsGoal(t *testing.T) {
	t.Parallel()
	rows := []row{
		{what: "A", value: 2.345, unit: "×", goal: 2, note: "3.21 s to 1.37 s"},
		{what: "B", value: 9, goal: 10},
		{what: "C", value: 123.4, unit: "MB"},
	}
	want := "| A | 2.35× | at most 2×, missed | 3.21 s to 1.37 s |\n| B | 9 | at most 10 |  |\n| C | 123 MB |  |  |\n"
	if got := table(rows); !strings.HasSuffix(got, want) {
		t.Errorf("the table:\n%s\nwant\n%s", got, want)
	}
	if drawn := picture(rows); strings.Count(drawn, "<rect x") != 2 || !strings.Contains(drawn, ">2.35×<") {
		t.Errorf("the picture:\n%s", drawn)
	}
}

func TestOnlyWhatIsBetweenTheMarksIsReplaced(t *testing.T) {
	t.Parallel()
	page := []byte("before\n" + begin + "old\n" + end + "after\n")
	for range 2 { // the second time what it has written itself
		got, err := replaced(page, "new\n")
		if want := "before\n" + begin + "\nnew\n\n" + end + "after\n"; err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
		page = got
	}
	if _, err := replaced([]byte("before\n"+begin), "new"); err == nil {
		t.Error("took a page without an end")
	}
}

func TestRatiosAreOfMedians(t *testing.T) {
	t.Parallel()
	slow := times{wall: []time.Duration{90, 10, 20}, cpu: []time.Duration{4, 8}}
	quick := times{wall: []time.Duration{5, 900, 10}, cpu: []time.Duration{3, 1}}
	if slow.ratio(quick) != 2 || slow.cpuRatio(quick) != 3 {
		t.Errorf("%v %v", slow.ratio(quick), slow.cpuRatio(quick))
	}
}

func TestCodeIsCountedByModule(t *testing.T) {
	t.Parallel()
	got := codeSizes([]byte("401000 100 T runtime.main\n402000 20 t net/http.(*conn).serve\n 0 7 D runtime.heap\n" +
		"403000 3 T github.com/a/b/c/d.(*T).M\n404000 4 t github.com/a/b.F[github.com/x/y.Z]\n405000 5 T google.golang.org/grpc/mem.Get\n"))
	if want := map[string]int{"Go": 120, "github.com/a/b": 7, "google.golang.org/grpc": 5}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
