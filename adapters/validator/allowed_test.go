package validator_test

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/apex-tradebill/omni-secrets/adapters/validator"
)

func TestAllowedHostsThatAreRefused(t *testing.T) {
	for entry, want := range map[string]string{
		"https://api.example.com": "list the host alone", "api.example.com/v1": "neither an address", "user@host.example.com": "must be",
		"api..example.com": "must be", "api.example.com.": "must be", "-a.example.com": "must be", "a b": "must be", "bücher.example": "must be",
		"*": "must be", "*.*.example.com": "must be", "a.*.example.com": "must be", "*example.com": "must be", "*.com": "top-level domain",
		"127.1": "must be", "0x7f000001": "must be", "2130706433": "must be", "api.example.com:": "port", "api.example.com:0": "port",
		"api.example.com:65536": "port", "api.example.com:https": "port", ":443": "must be", "10.0.0.0/8:x": "port",
		"10.1.2.3/8": "write 10.0.0.0/8", "10.0.0.0/33": "neither", "0.0.0.0/0": "every address", "::/0": "every address",
		"::ffff:10.0.0.1": "IPv4 address", "::ffff:10.0.0.0/104": "IPv4 address", "fe80::1%eth0": "neither", "[::1": "[ ]", "[10.0.0.1]": "[ ]",
		"[::1]443": "after ]", "[::1]:": "port", strings.Repeat("a", 64) + ".example.com": "must be",
	} {
		t.Run(entry, func(t *testing.T) {
			_, err := validator.New(validator.Config{AllowedHosts: []string{"good.example.com", entry}})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error is %v, want one with %q", err, want)
			}
		})
	}
	_, err := validator.New(validator.Config{AllowedHosts: []string{"one two", "good.example.com", "*.com"}})
	if err == nil || !strings.Contains(err.Error(), `"one two"`) || !strings.Contains(err.Error(), `"*.com"`) {
		t.Errorf("not everything is reported: %v", err)
	}
}

func TestCheckURL(t *testing.T) {
	v := newValidator(t, validator.Config{AllowedHosts: []string{
		"api.example.com", "ported.example.com:8443", " *.Hooks.example.com ", "", "xn--bcher-kva.example", "with_underscore",
		"10.1.0.0/16", "127.0.0.1:8080", "[::1]:8080", "fd00::/8", "8.8.8.8", "64:ff9b::/96",
	}})
	for address, want := range map[string]string{ // "": it may be called
		"https://api.example.com/v1/account?dry=1": "", "https://API.example.com": "", "https://api.example.com:8443/": "",
		"https://ported.example.com:8443/": "", "https://a.hooks.example.com/": "", "https://a.b.hooks.example.com/": "",
		"https://xn--bcher-kva.example/": "", "https://with_underscore/": "", "https://10.1.2.3/": "", "http://10.1.2.3:9000/x": "",
		"http://127.0.0.1:8080/": "", "https://[::1]:8080/": "", "http://[fd00::1]/": "", "https://8.8.8.8/": "",
		"https://[64:ff9b::808:808]/": "",

		"":                                   "absolute",
		"api.example.com/v1":                 "absolute",
		"//api.example.com/":                 "absolute",
		"/v1":                                "absolute",
		"https:api.example.com":              "absolute",
		"https:///v1":                        "absolute",
		"https://":                           "absolute",
		"ftp://api.example.com/":             "absolute",
		"file:///etc/passwd":                 "absolute",
		"https://api.example.com/\n":         "absolute",
		`https://api.example.com\@other/`:    "absolute",
		"https://api.example.com@other.com/": "user name",
		"https://u:p@api.example.com/":       "user name",
		"https://@api.example.com/":          "user name",
		"https://api.example.com/#x":         "no #",
		"https://api.example.com/#":          "no #",
		"https://api.example.com:/":          "colon without a port",
		"https://api.example.com:0/":         "1 to 65535",
		"https://api.example.com:99999/":     "1 to 65535",
		"http://api.example.com/":            "use https://",
		"http://localhost/":                  "use https://",
		"http://8.8.8.8/":                    "use https://",
		"https://example.com/":               "example.com:443 is not among the allowed hosts",
		"https://evil-api.example.com/":      "is not among",
		"https://api.example.com.evil.com/":  "is not among",
		"https://hooks.example.com/":         "is not among",
		"https://ahooks.example.com/":        "is not among",
		"https://ported.example.com/":        "ported.example.com:443 is not among",
		"https://api.example.com./":          "neither a name",
		"https://bücher.example/":            "neither a name",
		"https://api%2eexample.com/":         "absolute",
		"https://127.1/":                     "neither a name",
		"https://0x7f000001/":                "neither a name",
		"https://2130706433/":                "neither a name",
		"https://10.2.0.1/":                  "is not among",
		"https://9.9.9.9/":                   "is not among",
		"https://127.0.0.1/":                 "127.0.0.1:443 is not among",
		"https://[::1]/":                     "[::1]:443 is not among",
		"https://[::ffff:10.1.2.3]/":         "plain one",
		"https://[fd00::1%25eth0]/":          "plain one",
		"https://[64:ff9b::a9fe:a9fe]/":      "is not among", // 169.254.169.254 behind an allowed translator
		"https://" + strings.Repeat("a", 64) + ".hooks.example.com/": "neither a name",
	} {
		t.Run(address, func(t *testing.T) {
			err := v.CheckURL(address)
			if want == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("error is %v, want one with %q", err, want)
			}
		})
	}
}

func TestNoListAllowsNothing(t *testing.T) {
	v := newValidator(t, validator.Config{})
	for _, address := range []string{"https://example.com/", "https://8.8.8.8/", "https://127.0.0.1/", "http://127.0.0.1/"} {
		if v.CheckURL(address) == nil {
			t.Errorf("%s may be called", address)
		}
	}
}

func TestRefusedURLsAreNotRepeated(t *testing.T) {
	v := newValidator(t, validator.Config{AllowedHosts: []string{"api.example.com"}})
	for _, address := range []string{
		"https://user-hush:hush@api.example.com/", "https://other.example.com/hush?token=hush", "http://api.example.com/hush?hush",
		"https://api.example.com/hush#hush", "https://api.example.com:0/hush", "://hush", "https://api.example.com/%zz?hush", "https://hush\x00/",
	} {
		if err := v.CheckURL(address); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// Whatever list is accepted allows no more than it says.
func FuzzAllowedHosts(f *testing.F) {
	for _, seed := range []string{"api.example.com", "*.hooks.example.com:8443", "10.1.0.0/16", "[::1]:8080", "fd00::/8", "[fd00::/8]:1", "127.1", "", "*.", "::ffff:1.2.3.4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		v, err := validator.New(validator.Config{AllowedHosts: []string{entry}})
		if err != nil {
			return
		}
		for _, address := range []string{"https://never-listed.example.org/", "http://never-listed.example.org/"} {
			if v.CheckURL(address) == nil && !strings.Contains(strings.ToLower(entry), "example.org") {
				t.Errorf("the entry %q allows %s", entry, address)
			}
		}
		if v.CheckURL("https://169.254.169.254/") == nil && !strings.ContainsAny(entry, "0123456789") {
			t.Errorf("the entry %q allows a metadata server", entry)
		}
	})
}

// Whatever URL is accepted goes where the list says, over TLS unless the address is private, and without a password.
func FuzzCheckURL(f *testing.F) {
	for _, seed := range []string{
		"https://api.example.com/v1?x=y", "http://10.1.2.3:8080/", "https://a.hooks.example.com:8443", "https://u:p@api.example.com/",
		"https://[::ffff:10.1.2.3]/", "https://api.example.com\\@x", "https://127.1/", "HTTPS://API.EXAMPLE.COM", "https://api.example.com%00/", "",
	} {
		f.Add(seed)
	}
	v, err := validator.New(validator.Config{AllowedHosts: []string{"api.example.com", "*.hooks.example.com:8443", "10.1.0.0/16"}})
	if err != nil {
		f.Fatal(err)
	}
	network := netip.MustParsePrefix("10.1.0.0/16")
	f.Fuzz(func(t *testing.T, address string) {
		if err := v.CheckURL(address); err != nil {
			return
		}
		u, err := url.Parse(address)
		if err != nil || u.User != nil {
			t.Fatalf("%q may be called, and is %v, %v", address, u, err)
		}
		host := strings.ToLower(u.Hostname())
		ip, err := netip.ParseAddr(host)
		private := err == nil && network.Contains(ip)
		listed := private || host == "api.example.com" || strings.HasSuffix(host, ".hooks.example.com") && u.Port() == "8443"
		if !listed || u.Scheme != "https" && (u.Scheme != "http" || !private) {
			t.Errorf("%q may be called", address)
		}
		if slices.ContainsFunc([]byte(host), func(b byte) bool { return b > '~' || b <= ' ' }) {
			t.Errorf("%q may be called", address)
		}
	})
}
