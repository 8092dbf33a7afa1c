package machinefs

import (
	"net"
	"net/netip"
	"os"
	"syscall"
)

// BindTCP binds a socket to an address without listening, and returns its descriptor.
func BindTCP(address netip.AddrPort) (int, error) {
	family := syscall.AF_INET
	var sockaddr syscall.Sockaddr = &syscall.SockaddrInet4{Port: int(address.Port()), Addr: as4(address.Addr())}
	if !address.Addr().Unmap().Is4() {
		family = syscall.AF_INET6
		sockaddr = &syscall.SockaddrInet6{Port: int(address.Port()), Addr: address.Addr().As16()}
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = os.NewSyscallError("bind", syscall.Bind(fd, sockaddr))
	}
	if err != nil {
		_ = syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func as4(ip netip.Addr) [4]byte {
	if ip = ip.Unmap(); ip.Is4() {
		return ip.As4()
	}
	return [4]byte{}
}

// ListenTCP makes a bound socket a listener, which owns the socket from then on.
func ListenTCP(fd int) (net.Listener, error) {
	if err := syscall.Listen(fd, 128); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	file := os.NewFile(uintptr(fd), "sandbox machine")
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	return listener, file.Close()
}
