package host

import (
	"fmt"
	"sync"
	"unicode/utf8"
)

// maxMaxOutput bounds Command.MaxOutput, in bytes.
const maxMaxOutput = 64 << 20

// capture keeps the head and the tail of what is written to it, and counts all of it. Write never fails or blocks.
type capture struct {
	mu         sync.Mutex
	head, tail []byte // the tail may grow to twice its part of the limit
	limit      int
	total      int
}

func newCapture(limit int) *capture {
	if limit <= 0 {
		limit = DefaultMaxOutput
	}
	return &capture{limit: min(limit, maxMaxOutput)}
}

// Write never returns an error.
func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := len(p)
	c.total += written
	n := min(c.limit/2-len(c.head), len(p))
	c.head = append(c.head, p[:n]...)
	c.tail = append(c.lastOf(c.tail, 2), c.lastOf(p[n:], 1)...)
	return written, nil
}

// lastOf cuts b down to its last bytes, as many as a tail may have, once b has more than times that many.
func (c *capture) lastOf(b []byte, times int) []byte {
	most := c.limit - c.limit/2
	if len(b) <= times*most {
		return b
	}
	return append(b[:0:0], b[len(b)-most:]...)
}

// result returns what was kept, and whether anything was omitted. A line in the place of what was omitted says how much it was. No
// character is cut in half.
func (c *capture) result() (text string, truncated bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total <= c.limit {
		return string(c.head) + string(c.tail), false
	}
	head, tail := trimEnd(c.head), trimStart(c.lastOf(c.tail, 1))
	return fmt.Sprintf("%s\n… %d bytes omitted …\n%s", head, c.total-len(head)-len(tail), tail), true
}

// trimEnd removes an incomplete last character.
func trimEnd(b []byte) []byte {
	for cut := 1; cut < utf8.UTFMax && cut <= len(b); cut++ {
		if at := len(b) - cut; utf8.RuneStart(b[at]) {
			if !utf8.FullRune(b[at:]) {
				return b[:at]
			}
			break
		}
	}
	return b
}

// trimStart removes the rest of a character that begins before b.
func trimStart(b []byte) []byte {
	for cut := 0; cut < utf8.UTFMax && cut < len(b); cut++ {
		if utf8.RuneStart(b[cut]) {
			return b[cut:]
		}
	}
	return b
}
