package host

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// flushTimeout is how long the last bytes of a closed stream may take to be sent.
const flushTimeout = time.Second / 2

// stream is a net.Conn over an SSH channel. The channels of x/crypto/ssh have no deadlines, and their Read and Write wait for the
// other end even after Close; so a goroutine copies each direction through an in-memory pipe. The goroutines end when the machine
// confirms the channel's end, at the latest with the client.
type stream struct {
	client        *Client
	in, out       net.Conn // the near ends of the pipes
	local, remote net.Addr
	flushed       chan struct{}         // closed after the last write to the channel
	finish        func() error          // returns why reading ended; nil means a regular end
	shut          func()                // ends what is behind the stream, in bounded time
	final         atomic.Pointer[error] // the result of finish, set before the pipe is closed at the far end
	closing       sync.Once
	doneWriting   atomic.Bool // CloseWrite or Close was called
}

// newStream returns a stream over a channel.
func newStream(c *Client, ch channel, local, remote net.Addr, finish func() error, shut func(*stream)) *stream {
	near, far := net.Pipe()
	nearOut, farOut := net.Pipe()
	s := &stream{
		client: c, in: near, out: nearOut, local: local, remote: remote,
		flushed: make(chan struct{}), finish: finish,
	}
	s.shut = func() { shut(s) }
	go s.receive(far, ch)
	go s.send(ch, farOut)
	return s
}

func (s *stream) receive(far net.Conn, ch channel) {
	if _, err := io.Copy(far, ch); !errors.Is(err, io.ErrClosedPipe) { // otherwise Close was called
		end := s.finish()
		s.final.Store(&end)
	}
	_ = far.Close()
}

func (s *stream) send(ch channel, far net.Conn) {
	defer func() { _ = far.Close() }()
	defer close(s.flushed)
	if _, err := io.Copy(ch, far); err == nil {
		_ = ch.CloseWrite()
	}
}

// Read reads what the machine sent.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	switch {
	case errors.Is(err, io.ErrClosedPipe):
		err = net.ErrClosed
	case errors.Is(err, io.EOF):
		if end := s.final.Load(); end != nil && *end != nil {
			err = *end
		}
	}
	return n, err
}

// Write sends p. As with a socket, it doesn't wait until p has arrived.
func (s *stream) Write(p []byte) (int, error) {
	n, err := s.out.Write(p)
	if errors.Is(err, io.ErrClosedPipe) {
		err = s.writeError()
	}
	return n, err
}

var errClosedByPeer = errors.New("the machine closed the connection")

func (s *stream) writeError() error {
	if s.doneWriting.Load() {
		return net.ErrClosed
	}
	if end := s.final.Load(); end != nil && *end != nil {
		return *end
	}
	if err := s.client.Err(); err != nil {
		return err
	}
	return errClosedByPeer
}

// CloseWrite signals the end of the input to the other end. Reading goes on.
func (s *stream) CloseWrite() error {
	s.doneWriting.Store(true)
	return s.out.Close()
}

// Close ends the stream, in bounded time. A Read or Write in progress returns at once.
func (s *stream) Close() error {
	s.closing.Do(func() {
		_ = s.CloseWrite()
		_ = s.in.Close()
		s.shut()
	})
	return nil
}

// LocalAddr returns the machine's SSH address.
func (s *stream) LocalAddr() net.Addr { return s.local }

// RemoteAddr returns the address that the stream leads to, as seen from the machine.
func (s *stream) RemoteAddr() net.Addr { return s.remote }

// SetDeadline sets both deadlines.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read; see net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error { return s.in.SetReadDeadline(t) }

// SetWriteDeadline bounds Write; see net.Conn.
func (s *stream) SetWriteDeadline(t time.Time) error { return s.out.SetWriteDeadline(t) }

// streamAddr is an address as seen from the machine.
type streamAddr struct{ network, address string }

// Network returns the network's name.
func (a streamAddr) Network() string { return a.network }

// String returns the address.
func (a streamAddr) String() string { return a.address }
