package validator

import (
	"net/netip"
	"slices"
)

// notPublic are the IPv4 networks that IANA lists as not globally reachable, and those for many receivers
// (https://www.iana.org/assignments/iana-ipv4-special-registry).
var notPublic = networks(
	"0.0.0.0/8",       // this network
	"10.0.0.0/8",      // private
	"100.64.0.0/10",   // shared by carriers (CGNAT)
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link-local, the metadata servers of clouds among them
	"172.16.0.0/12",   // private
	"192.0.0.0/24",    // protocol assignments
	"192.0.2.0/24",    // documentation
	"192.88.99.0/24",  // 6to4 relays
	"192.168.0.0/16",  // private
	"198.18.0.0/15",   // benchmarks
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"224.0.0.0/4",     // multicast
	"240.0.0.0/4",     // reserved, and broadcast
)

// Of IPv6, only global unicast is public, without what IANA sets apart in it
// (https://www.iana.org/assignments/iana-ipv6-special-registry). So loopback, unique local, link-local, multicast,
// the unspecified address and IPv4 in any disguise are not.
var (
	globalUnicast = netip.MustParsePrefix("2000::/3")
	setApart      = networks(
		"2001::/23",     // protocol assignments, Teredo among them
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4, which holds an IPv4 address
		"3fff::/20",     // documentation
	)
)

// nat64 is the well-known prefix of translators (RFC 6052): the last 4 bytes are the IPv4 address that is meant.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

func networks(list ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, len(list))
	for i, text := range list {
		parsed[i] = netip.MustParsePrefix(text)
	}
	return parsed
}

// public reports whether address can be that of anybody on the internet.
func public(address netip.Addr) bool {
	contains := func(n netip.Prefix) bool { return n.Contains(address) }
	if address.Is4() {
		return !slices.ContainsFunc(notPublic, contains)
	}
	return globalUnicast.Contains(address) && !slices.ContainsFunc(setApart, contains)
}

// embedded is the IPv4 address that a translator makes of address.
func embedded(address netip.Addr) (inner netip.Addr, ok bool) {
	if !nat64.Contains(address) {
		return netip.Addr{}, false
	}
	b := address.As16()
	return netip.AddrFrom4([4]byte(b[12:])), true
}
