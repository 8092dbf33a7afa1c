package host

import (
	"bufio"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
)

// greetingMost bounds what is read of a server's greeting.
const greetingMost = 16 << 10

// Answers reports whether an SSH server answers at an address before ctx ends: whether it takes
// the connection and says which it is (RFC 4253, section 4.2). Nobody logs in, so that it takes no
// key and says nothing about one.
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
