package validator

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// allowedHost is one entry of the list: names, or addresses.
type allowedHost struct {
	name     string       // in lower case; "" when it is addresses
	anyBelow bool         // the names that end in "." and name, at any depth, instead of name itself
	network  netip.Prefix // an address is a network of one
	port     uint16       // 0 is any
}

type allowedHosts []allowedHost

// parseAllowed reads a list of names, names below a domain, addresses and networks, each with or without a port.
// It reports everything that is wrong with it; blank entries are passed over.
func parseAllowed(entries []string) (allowedHosts, error) {
	var list allowedHosts
	var errs []error
	for _, text := range entries {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		entry, err := parseEntry(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %q: %w", allowedHostsVariable, text, err))
			continue
		}
		list = append(list, entry)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return list, nil
}

func parseEntry(text string) (allowedHost, error) {
	host, port := text, ""
	switch {
	case strings.Contains(text, "://"):
		return allowedHost{}, errors.New("list the host alone, without https:// and path")
	case strings.HasPrefix(text, "["):
		end := strings.LastIndexByte(text, ']')
		if end < 0 || !strings.Contains(text[:end], ":") {
			return allowedHost{}, errors.New("[ ] stand around an IPv6 address or network")
		}
		host, port = text[1:end], text[end+1:]
		if port != "" && !strings.HasPrefix(port, ":") {
			return allowedHost{}, errors.New("after ] comes :port or nothing")
		}
	case strings.Count(text, ":") == 1:
		host, port = text[:strings.IndexByte(text, ':')], text[strings.IndexByte(text, ':'):]
	}
	var entry allowedHost
	if port != "" {
		n, err := strconv.ParseUint(port[1:], 10, 16)
		if err != nil || n == 0 {
			return allowedHost{}, errors.New("the port must be 1 to 65535")
		}
		entry.port = uint16(n)
	}
	if strings.ContainsAny(host, ":/") || isAddress(host) {
		network, err := parseNetwork(host)
		entry.network = network
		return entry, err
	}
	entry.name = strings.ToLower(host)
	entry.name, entry.anyBelow = strings.CutPrefix(entry.name, "*.")
	switch {
	case !validName(entry.name):
		return allowedHost{}, errors.New("it must be a host name (one of another script as xn--), *.domain, an address or a network such as 10.1.0.0/16, with or without :port")
	case entry.anyBelow && !strings.Contains(entry.name, "."):
		return allowedHost{}, errors.New("it allows a whole top-level domain; name the domain below it")
	}
	return entry, nil
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	network, err := netip.ParsePrefix(text)
	if address, addressErr := netip.ParseAddr(text); addressErr == nil && address.Zone() == "" {
		network, err = netip.PrefixFrom(address, address.BitLen()), nil
	}
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("it is neither an address nor a network such as 10.1.0.0/16")
	case network.Addr().Is4In6():
		return netip.Prefix{}, errors.New("write the IPv4 address or network itself")
	case network.Bits() == 0:
		return netip.Prefix{}, errors.New("it allows every address, those of this machine and of its cloud among them; list the networks")
	case network != network.Masked():
		return netip.Prefix{}, fmt.Errorf("an address within a network; write %s for the network", network.Masked())
	}
	return network, nil
}

var label = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// validName reports whether name, in lower case, is a host's name. One that ends in a number is none: programs
// that read addresses leniently take 127.1 and 0x7f000001 for this machine.
func validName(name string) bool {
	labels := strings.Split(name, ".")
	last := labels[len(labels)-1]
	return len(name) <= 253 && strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(last, "0x") &&
		!slices.ContainsFunc(labels, func(l string) bool { return !label.MatchString(l) })
}

// hasName reports whether a host of this name, in lower case, may be called.
func (l allowedHosts) hasName(name string, port uint16) bool {
	return slices.ContainsFunc(l, func(e allowedHost) bool {
		matches := e.name == name
		if e.anyBelow {
			matches = strings.HasSuffix(name, "."+e.name)
		}
		return e.name != "" && matches && e.allowsPort(port)
	})
}

// covers reports whether the list holds the address itself.
func (l allowedHosts) covers(address netip.AddrPort) bool {
	return slices.ContainsFunc(l, func(e allowedHost) bool {
		return e.name == "" && e.network.Contains(address.Addr()) && e.allowsPort(address.Port())
	})
}

func (e allowedHost) allowsPort(port uint16) bool { return e.port == 0 || e.port == port }

// mayConnect reports whether a connection to address may be opened: it is public, or the list holds it.
func (l allowedHosts) mayConnect(address netip.AddrPort) bool {
	address = netip.AddrPortFrom(address.Addr().WithZone(""), address.Port())
	if inner, ok := embedded(address.Addr()); ok {
		// A translator that is allowed still does not lead to everything behind it.
		return l.covers(address) && l.mayConnect(netip.AddrPortFrom(inner, address.Port()))
	}
	return public(address.Addr()) || l.covers(address)
}

// parseURL reads a URL that a check may be sent to. Its errors name host and port at most: a path or query may
// hold a token.
func (l allowedHosts) parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return nil, errors.New("the URL must be an absolute one: https://host/path")
	case u.User != nil:
		return nil, errors.New("the URL must hold no user name or password")
	case u.Fragment != "" || strings.Contains(text, "#"):
		return nil, errors.New("the URL must hold no #, since nothing behind it is sent")
	}
	port := uint16(443)
	if u.Scheme == "http" {
		port = 80
	}
	if text := u.Port(); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return nil, errors.New("the port of the URL must be 1 to 65535")
		}
		port = uint16(n)
	} else if strings.HasSuffix(u.Host, ":") {
		return nil, errors.New("the URL has a colon without a port")
	}

	host := strings.ToLower(u.Hostname())
	at := net.JoinHostPort(host, strconv.Itoa(int(port)))
	address, _ := netip.ParseAddr(host) // not valid: it is a name
	isName := !address.IsValid()
	switch {
	case isName && !validName(host):
		return nil, errors.New("the host of the URL is neither a name (one of another script as xn--, no dot at its end) nor an address")
	case isName && u.Scheme == "http":
		return nil, fmt.Errorf("%s: http:// is allowed only to a private address that is written as such; use https://", at)
	case isName && !l.hasName(host, port):
		return nil, notAllowed(at)
	case isName:
		return u, nil
	case address.Is4In6() || address.Zone() != "":
		return nil, errors.New("the address of the URL must be a plain one, neither IPv4 within IPv6 nor with a zone")
	case !l.covers(netip.AddrPortFrom(address, port)) || !l.mayConnect(netip.AddrPortFrom(address, port)):
		return nil, notAllowed(at)
	case u.Scheme == "http" && public(address):
		return nil, fmt.Errorf("%s: http:// is allowed only to a private address; use https://", at)
	}
	return u, nil
}

func notAllowed(at string) error {
	return fmt.Errorf("%s is not among the allowed hosts; whoever runs the server can add it to %s", at, allowedHostsVariable)
}
