package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestRecording(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	lines, err := record(strings.NewReader("go build\n1. Plan\n   a <b> & c\n"+strings.Repeat("é", columns+1)+"\n"), &out)
	if err != nil || len(lines) != 3 || !strings.HasPrefix(out.String(), "go build\n1. Plan\n") {
		t.Fatalf("%v, %v, %q", lines, err, out.String())
	}
	picture := draw(lines)
	if n := strings.Count(picture, "<text "); n != 3 || !strings.Contains(picture, "a &lt;b&gt; &amp; c") || !strings.Contains(picture, "é…<") {
		t.Errorf("%d lines in %s", n, picture)
	}
	for decoder := xml.NewDecoder(strings.NewReader(picture)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
