package main

import (
	"bytes"
	"strings"
	"testing"
)

// lines builds what go test -json prints, with ' for ".
func lines(events ...string) *strings.Reader {
	return strings.NewReader(strings.ReplaceAll(strings.Join(events, "\n"), "'", `"`) + "\n")
}

func TestTallyReadsGoTest(t *testing.T) {
	t.Parallel()
	const (
		passes     = `{'Action':'pass','Package':'p','Test':'TestA'}`
		ends       = `{'Action':'pass','Package':'p','Elapsed':0.1}`
		breaks     = `{'Action':'fail','Package':'p','Elapsed':0.1}`
		skips      = `{'Action':'skip','Package':'p','Test':'TestB'}`
		buildFails = `{'Action':'fail','Package':'p','FailedBuild':'p [p.test]'}`
	)
	tests := []struct {
		name   string
		events []string
		counts string
		says   string // part of the first failure, or of the reasons for skipping
	}{
		{"passes", []string{passes, `{'Action':'pass','Package':'p','Test':'TestA/sub'}`, ends}, "2 passed, 0 failed, 0 skipped", ""},
		{
			"fails",
			[]string{
				`{'Action':'output','Package':'p','Test':'TestB','Output':'    b_test.go:1: it is 3\n'}`,
				`{'Action':'fail','Package':'p','Test':'TestB'}`, passes, breaks,
			},
			"1 passed, 1 failed, 0 skipped", "it is 3",
		},
		{
			"skips with a reason",
			[]string{`{'Action':'output','Package':'p','Test':'TestB','Output':'    b_test.go:1: SKIPPED: no sshd here\n'}`, skips, ends},
			"0 passed, 0 failed, 1 skipped", "1 because: no sshd here",
		},
		{
			"skips because the CLI is too old",
			[]string{
				`{'Action':'output','Package':'p','Test':'TestB',` +
					`'Output':'    b_test.go:1: Terraform CLI version 1.11.4 is below minimum version 1.14.0: skipping test\n'}`, skips, ends,
			},
			"0 passed, 0 failed, 1 skipped", "1 because: Terraform CLI version 1.11.4 is below minimum version 1.14.0",
		},
		{
			"skips without a reason",
			[]string{`{'Action':'output','Package':'p','Test':'TestB','Output':'    b_test.go:1: not now\n'}`, skips, ends},
			"0 passed, 1 failed, 0 skipped", "without a message",
		},
		{
			"does not build",
			[]string{`{'Action':'build-output','ImportPath':'p [p.test]','Output':'x.go:1: undefined: y\n'}`, buildFails},
			"0 passed, 1 failed, 0 skipped", "undefined: y",
		},
		{
			"leaks after its tests have passed",
			[]string{passes, `{'Action':'output','Package':'p','Output':'goleak: found goroutines\n'}`, breaks},
			"1 passed, 1 failed, 0 skipped", "goleak",
		},
		{
			"is ended in the middle of a test",
			[]string{`{'Action':'output','Package':'p','Test':'TestB','Output':'panic: test timed out\n'}`, breaks},
			"0 passed, 1 failed, 0 skipped", "timed out",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var total tally
			if err := total.read(t.Context(), "round", lines(test.events...), &bytes.Buffer{}); err != nil {
				t.Fatal(err)
			}
			if got := total.counts(); got != test.counts {
				t.Errorf("counts %q, want %q", got, test.counts)
			}
			said := total.skips()
			if len(total.failures) > 0 {
				said = total.failures[0].String()
			}
			if !strings.Contains(said, test.says) {
				t.Errorf("says %q, want %q in it", said, test.says)
			}
		})
	}
}

func TestTallyShowsPackagesAndForeignLines(t *testing.T) {
	t.Parallel()
	var screen bytes.Buffer
	var total tally
	err := total.read(t.Context(), "round", lines(
		"go: downloading x",
		`{'Action':'pass','Package':'p','Test':'TestA'}`, `{'Action':'pass','Package':'p','Elapsed':1.5}`,
		`{'Action':'skip','Package':'without/tests'}`,
	), &screen)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := screen.String(), "go: downloading x\npass p  1 tests  1.5s\n"; got != want {
		t.Errorf("shows %q, want %q", got, want)
	}
}

func TestSkipsAreCountedByReason(t *testing.T) {
	t.Parallel()
	var total tally
	for _, reason := range []string{"no sshd", "no Docker", "no sshd"} {
		total.skip(reason)
	}
	if got, want := total.skips(), "skipped 2 because: no sshd; 1 because: no Docker"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSlowestTestsAreListed(t *testing.T) {
	t.Parallel()
	var total tally
	err := total.read(t.Context(), "tofu", lines(
		`{'Action':'pass','Package':'m/p','Test':'TestQuick','Elapsed':0.2}`,
		`{'Action':'pass','Package':'m/p','Test':'TestSlow/sub','Elapsed':9}`,
		`{'Action':'fail','Package':'m/p','Test':'TestSlow','Elapsed':0}`,
		`{'Action':'pass','Package':'m/q','Test':'TestMiddle','Elapsed':3}`,
	), &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := total.slowest(2), "   9.0s p.TestSlow/sub [tofu]\n   3.0s q.TestMiddle [tofu]\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
