package host

import (
	"bufio"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
)

// greetingMost bounds how much of a server's greeting is read, in bytes.
const greetingMost = 16 << 10

// Answers reports whether an SSH server answers at an address before ctx ends: it accepts the connection and sends its identification
// (RFC 4253, section 4.2). Answers doesn't log in, so it needs no key and checks none.
func Answers(ctx context.Context, hostname string, port int) bool {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(strings.Trim(hostname, "[]"), strconv.Itoa(port)))
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	lines := bufio.NewScanner(io.LimitReader(conn, greetingMost))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "SSH-") {
			return true
		}
	}
	return false
}
