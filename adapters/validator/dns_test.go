package validator_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/validator"
)

// fakeDNS is a resolver whose name server answers each query for an address with the next of these, and with the
// last one from then on.
func fakeDNS(t *testing.T, addresses ...string) *net.Resolver {
	t.Helper()
	server, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			address := netip.MustParseAddr(addresses[0])
			answer, answered := dnsAnswer(buffer[:n], address)
			if answered && len(addresses) > 1 {
				addresses = addresses[1:]
			}
			_, _ = server.WriteTo(answer, from)
		}
	})
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// dnsAnswer answers the one question of query (RFC 1035, section 4) with address if it is of the type asked for.
func dnsAnswer(query []byte, address netip.Addr) (answer []byte, answered bool) {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5 // the name's end, type and class
	asked := binary.BigEndian.Uint16(query[end-4:])
	kind := map[bool]uint16{true: 1, false: 28}[address.Is4()] // A, AAAA
	answer = append(answer, query[:end]...)
	copy(answer[2:12], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // a response, no error, one question
	if asked != kind {
		return answer, false
	}
	answer[7] = 1 // one answer, for the name in the question
	answer = append(answer, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(address.BitLen()/8))
	return append(answer, address.AsSlice()...), true
}

func TestNamesThatLeadToPrivateAddresses(t *testing.T) {
	for _, address := range []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"100.127.255.255", "192.0.0.170", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::808:808",
		"64:ff9b:1::a00:1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1", "5f00::1",
	} {
		v := newValidator(t, validator.Config{AllowedHosts: []string{"api.example.com"}, Resolver: fakeDNS(t, address)})
		for _, rule := range both("https://api.example.com/hush?hush") {
			t.Run(address+", "+rule.Name(), func(t *testing.T) {
				failed(t, v.Validate(t.Context(), rule, candidate), rule, "FORBIDDEN", "is not a public address")
			})
		}
	}
}

func TestNamesThatLeadToListedAddresses(t *testing.T) {
	p := newPeer(t, answering(200)).secure()
	for list, ending := range map[string]string{
		"127.0.0.1": "", "127.0.0.0/8": "", "127.0.0.1:" + p.port(): "",
		"127.0.0.1:1": "FORBIDDEN", "127.0.0.2": "FORBIDDEN", "10.0.0.0/8": "FORBIDDEN",
	} {
		v := newValidator(t, validator.Config{AllowedHosts: []string{"example.com", list}, RootCAs: p.trust(), Resolver: fakeDNS(t, "127.0.0.1")})
		for _, rule := range both("https://example.com:" + p.port() + "/") {
			t.Run(list+", "+rule.Name(), func(t *testing.T) {
				err := v.Validate(t.Context(), rule, candidate)
				if ending != "" {
					failed(t, err, rule, ending, "is not a public address")
				} else if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestNameOfAnotherCertificate(t *testing.T) {
	p := newPeer(t, answering(200)).secure()
	v := newValidator(t, validator.Config{AllowedHosts: []string{"api.example.org", "127.0.0.1"}, RootCAs: p.trust(), Resolver: fakeDNS(t, "127.0.0.1")})
	for _, rule := range both("https://api.example.org:" + p.port() + "/") {
		failed(t, v.Validate(t.Context(), rule, candidate), rule, "UNREACHABLE", "it is for other names")
	}
}

// The address that a name leads to is looked at for each check, however good the last one was.
func TestNameThatChangesItsAddress(t *testing.T) {
	p := newPeer(t, answering(200)).secure()
	v := newValidator(t, validator.Config{
		AllowedHosts: []string{"example.com", "127.0.0.1"}, RootCAs: p.trust(), Resolver: fakeDNS(t, "127.0.0.1", "169.254.169.254"),
	})
	rule := both("https://example.com:" + p.port() + "/")["http-probe"]
	if err := v.Validate(t.Context(), rule, candidate); err != nil {
		t.Fatal(err)
	}
	failed(t, v.Validate(t.Context(), rule, candidate), rule, "FORBIDDEN", "169.254.169.254")
}
