package provider_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// Addresses that don't answer, and how data sources report them.

// atMost is how much longer than its own timeout a read may take on a busy computer.
const atMost = 20 * time.Second

// silent is a port that accepts connections and sends nothing. A connection that isn't closed in time fails the test.
func silent(t *testing.T, within time.Duration) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() { // until the other side has enough of it
				begun := time.Now()
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
				if took := time.Since(begun); took > within {
					t.Errorf("a silent address was given up after %s, want %s", took, within)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		work.Wait()
	})
	return listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is one
}

// blackhole is a port that sends no answer at all, as behind a firewall that drops everything: its queue is full, and
// nothing is accepted from it.
func blackhole(t *testing.T) int {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	syscall.CloseOnExec(socket)
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(socket, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	port := name.(*syscall.SockaddrInet4).Port //nolint:forcetypeassert // it is one
	for range 16 {
		conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 300*time.Millisecond)
		if os.IsTimeout(err) {
			return port
		}
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("SKIPPED: this system answers for a port whose queue is full")
	return 0
}

// fleet are machines with a GPU and nothing else, all with the same key.
func fleet(t *testing.T, number int) (logins []values, machines []*machine.Machine) {
	t.Helper()
	private, public := sshKey(t)
	for range number {
		m, err := machine.Start(machine.Options{
			AuthorizedKeys: []string{public},
			Facts: machinefs.Facts{
				GPUs:   []machinefs.GPU{{Name: "NVIDIA RTX A5000", UUID: "GPU-f", MemoryMiB: 24564, ComputeCapability: "8.6"}},
				Driver: machinefs.DriverReady, DriverVersion: "580.95.05", CUDAVersion: "13.0",
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
		machines = append(machines, m)
		logins = append(logins, values{
			"host": m.Host(), "port": m.Port(), "user": m.User(), "private_key": private, "host_key": m.HostKey(),
		})
	}
	return logins, machines
}

// onlyGPUs skips the checks that need a server.
var onlyGPUs = []any{"runtime", "health", "model", "completion"}

// gpuCheck is the one check that isn't skipped.
func gpuCheck(t *testing.T, health tftypes.Value) tftypes.Value {
	t.Helper()
	return checksOf(t, health)["gpus"]
}

// Many machines are checked in parallel, three of which don't answer: the others' results come first, and those three end
// within their own timeouts.
func TestSlowMachinesHoldUpNobody(t *testing.T) {
	t.Parallel()
	const own = 8 * time.Second
	private, _ := sshKey(t)
	logins, machines := fleet(t, 12)
	machines[0].Unresponsive(true)
	defer machines[0].Unresponsive(false)
	slow := map[int]bool{0: true, 1: true, 2: true}
	nobody := func(port int) values {
		return values{"host": "127.0.0.1", "port": port, "user": "x", "private_key": private}
	}
	logins[1], logins[2] = nobody(silent(t, own+atMost)), nobody(blackhole(t))

	c := newCore(t)
	expect(t, c.configure(values{"url": "http://127.0.0.1:1", "journal_directory": ""}))
	var waiting atomic.Int32 // slow ones that have ended
	var reads sync.WaitGroup
	for i, login := range logins {
		reads.Go(func() {
			arguments := values{"ssh": login, "skip": onlyGPUs}
			if slow[i] {
				arguments["timeouts"] = values{"read": own.String()}
			}
			begun := time.Now()
			health, diags := c.readData(healthType, arguments)
			took := time.Since(begun)
			expect(t, diags)
			check := gpuCheck(t, health)
			if !slow[i] {
				if text(t, check, "status") != "passed" || waiting.Load() > 0 {
					t.Errorf("machine %d after %s: %s", i, took, check)
				}
				return
			}
			waiting.Add(1)
			t.Logf("machine %d doesn't answer, and that was known after %s of %s", i, took.Round(time.Millisecond), own)
			if problem := text(t, check, "problem"); truth(t, health, "healthy") || problem != "timeout" || took > own+atMost {
				t.Errorf("machine %d after %s: problem %q", i, took, problem)
			}
		})
	}
	reads.Wait()
}

// Everything on the same machine in one run shares a login, and consecutive requests to the shopper share a connection.
func TestConnectionsAreShared(t *testing.T) {
	t.Parallel()
	logins, _ := fleet(t, 1)
	ssh := logins[0]
	gate := count(t, fmt.Sprintf("%s:%d", ssh["host"], ssh["port"]))
	ssh["port"] = gate.port
	w := newWorld(t)
	service := count(t, w.URL()[len("http://"):])
	c := w.configured(t, values{"url": fmt.Sprintf("http://127.0.0.1:%d", service.port)})
	for range 2 { // side by side, and later in the same run
		var reads sync.WaitGroup
		for range 3 {
			reads.Go(func() {
				health, diags := c.readData(healthType, values{"ssh": ssh, "skip": onlyGPUs})
				expect(t, diags)
				if !truth(t, health, "healthy") {
					t.Errorf("unhealthy: %s", health)
				}
			})
			reads.Go(func() {
				endpoint, diags := c.readData(endpointType, values{"ssh": ssh}) // no server there
				expect(t, diags)
				if text(t, endpoint, "problem") != "unreachable" {
					t.Errorf("endpoint: %s", endpoint)
				}
			})
		}
		reads.Wait()
	}
	if n := gate.connections.Load(); n != 1 {
		t.Errorf("%d connections to the machine for 12 reads, want 1", n)
	}
	for _, name := range []string{offersType, sessionsType, costsType, serviceType, offersType} {
		_, diags := c.readData(name, nil)
		expect(t, diags)
	}
	if n := service.connections.Load(); n > 3 { // how the service is takes three requests at once
		t.Errorf("%d connections to the shopper for 5 reads in a row, want 3 at most", n)
	}
}

// counter passes connections on to an address and counts them.
type counter struct {
	port        int
	connections atomic.Int32
}

func count(t *testing.T, target string) *counter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{port: listener.Addr().(*net.TCPAddr).Port} //nolint:forcetypeassert // it is one
	var work sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	work.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			c.connections.Add(1)
			far, err := net.Dial("tcp", target)
			if err != nil {
				_ = near.Close()
				continue
			}
			mu.Lock()
			open = append(open, near, far)
			mu.Unlock()
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.Close()
			}
			work.Go(func() { pass(far, near) })
			work.Go(func() { pass(near, far) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		work.Wait()
	})
	return c
}

// Each data source ends within its own timeout if the other end accepts the connection and stays silent, or if nothing
// answers at all.
func TestDataSourcesEndInTime(t *testing.T) {
	t.Parallel()
	const own = "1s"
	for what, port := range map[string]int{"silent": silent(t, time.Second+atMost), "blackholed": blackhole(t)} {
		url := fmt.Sprintf("http://127.0.0.1:%d", port)
		c := newCore(t)
		expect(t, c.configure(values{"url": url, "journal_directory": ""}))
		id := "6f1c1d0e-0000-4000-8000-000000000000"
		var reads sync.WaitGroup
		for name, arguments := range map[string]values{
			offersType: {}, sessionsType: {}, sessionType: {"id": id}, costsType: {"session_id": id}, templatesType: {}, serviceType: {},
			endpointType: {"base_url": url + "/v1"}, healthType: {"base_url": url + "/v1"},
		} {
			arguments = with(arguments, values{"timeouts": values{"read": own}})
			reads.Go(func() {
				begun := time.Now()
				read, diags := c.readData(name, arguments)
				if took := time.Since(begun); took > time.Second+atMost {
					t.Errorf("%s of a %s address took %s", name, what, took)
				}
				endedInTime(t, name, read, diags)
			})
		}
		reads.Wait()
	}
}

// endedInTime checks the result of a read that timed out: a value where problems are values, else an error.
func endedInTime(t *testing.T, name string, read tftypes.Value, diags []*tfprotov6.Diagnostic) {
	t.Helper()
	switch name {
	case serviceType, endpointType:
		expect(t, diags)
		if problem := text(t, read, "problem"); problem != "timeout" && problem != "unreachable" {
			t.Errorf("%s: problem %q", name, problem)
		}
	case healthType:
		expect(t, diags)
		for _, check := range []string{"health", "model", "completion"} {
			if problem := text(t, checksOf(t, read)[check], "problem"); problem != "timeout" {
				t.Errorf("%s: %s has problem %q", name, check, problem)
			}
		}
	case costsType: // what they are is nothing that a destroy has to wait for
		expect(t, diags, "WARNING: ")
		if !get(t, read, "total_cost").IsNull() {
			t.Errorf("%s: %s", name, read)
		}
	default:
		if !failed(diags) {
			t.Errorf("%s: no error", name)
		}
	}
}

// Nothing is kept from one read to the next.
func TestDataSourcesKeepNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	read := func(name string, arguments values) tftypes.Value {
		t.Helper()
		got, diags := c.readData(name, arguments)
		expect(t, diags)
		return got
	}
	before := number(t, read(offersType, nil), "total")
	if n := len(elements(t, read(sessionsType, nil), "sessions")); n != 0 {
		t.Fatalf("%d sessions", n)
	}
	w.rentByHand(t, vast, "terraform/test/"+token)
	if n := len(elements(t, read(sessionsType, nil), "sessions")); n != 1 {
		t.Errorf("%d sessions once one is rented", n)
	}
	w.Advance(5 * time.Minute) // the service itself keeps its listing for a while
	if after := number(t, read(offersType, nil), "total"); after != before-1 {
		t.Errorf("%v offers before, and %v once one is taken", before, after)
	}
	w.releaseByHand(t)
	if n := len(elements(t, read(sessionsType, nil), "sessions")); n != 0 {
		t.Errorf("%d sessions once it is released", n)
	}

	logins, machines := fleet(t, 1)
	health := values{"ssh": logins[0], "skip": onlyGPUs}
	if !truth(t, read(healthType, health), "healthy") {
		t.Error("unhealthy at first")
	}
	if err := machines[0].SetFacts(func(f *machinefs.Facts) { f.Driver = machinefs.DriverBuilding }); err != nil {
		t.Fatal(err)
	}
	if truth(t, read(healthType, health), "healthy") {
		t.Error("healthy without a driver")
	}
}
