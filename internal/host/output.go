package host

import (
	"fmt"
	"sync"
	"unicode/utf8"
)

// maxMaxOutput bounds what a caller can ask to keep of one stream.
const maxMaxOutput = 64 << 20

// capture keeps the head and the tail of what is written to it, and counts the rest.
// Writing never fails, so that whoever writes is never held up.
type capture struct {
	mu    sync.Mutex // guards memory only
	head  []byte
	tail  []byte // a ring once it is full
	next  int    // where the ring goes on
	limit int
	total int
}

func newCapture(limit int) *capture {
	if limit <= 0 {
		limit = DefaultMaxOutput
	}
	return &capture{limit: min(limit, maxMaxOutput)}
}

// Write keeps what there is room for.
func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := len(p)
	c.total += written
	if room := c.headLimit() - len(c.head); room > 0 {
		n := min(room, len(p))
		c.head = append(c.head, p[:n]...)
		p = p[n:]
	}
	c.keepTail(p)
	return written, nil
}

func (c *capture) headLimit() int { return c.limit / 2 }
func (c *capture) tailLimit() int { return c.limit - c.limit/2 }

func (c *capture) keepTail(p []byte) {
	if extra := len(p) - c.tailLimit(); extra > 0 {
		p = p[extra:]
	}
	if room := c.tailLimit() - len(c.tail); room > 0 {
		n := min(room, len(p))
		c.tail = append(c.tail, p[:n]...)
		p = p[n:]
	}
	for len(p) > 0 {
		n := copy(c.tail[c.next:], p)
		c.next = (c.next + n) % len(c.tail)
		p = p[n:]
	}
}

// result is what was kept, and whether anything was left out. Where something was, a line says
// how much, and no character is cut in half.
func (c *capture) result() (text string, truncated bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tail := make([]byte, 0, len(c.tail))
	tail = append(append(tail, c.tail[c.next:]...), c.tail[:c.next]...)
	if c.total <= c.limit {
		return string(c.head) + string(tail), false
	}
	head := trimEnd(c.head)
	tail = trimStart(tail)
	return fmt.Sprintf("%s\n… %d bytes left out …\n%s", head, c.total-len(head)-len(tail), tail), true
}

// trimEnd drops an incomplete last character.
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

// trimStart drops the rest of a character that began before b.
func trimStart(b []byte) []byte {
	for cut := 0; cut < utf8.UTFMax && cut < len(b); cut++ {
		if utf8.RuneStart(b[cut]) {
			return b[cut:]
		}
	}
	return b
}
