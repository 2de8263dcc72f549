package main

import (
	"os"
	"testing"
)

// TestIsEndpoint: an endpoint is HOST:PORT, and a file of that name comes first.
func TestIsEndpoint(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("there:443", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", "dangling:443"); err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]bool{
		"www.example.com:443": true, "localhost:1": true, "10.0.0.1:65535": true, "[::1]:443": true, "[fe80::1%eth0]:443": true, "bücher.example:443": true,
		"there:443": false, "dangling:443": false, "-": false, "": false, "www.example.com": false, ":443": false, "localhost:": false, "localhost:0": false,
		"localhost:65536": false, "localhost:https": false, "localhost:+1": false, "::1": false, "::1:443": false, "pki/web:443": false, "https://a:443": false,
	} {
		if have := isEndpoint(arg); have != want {
			t.Errorf("isEndpoint(%q) is %v", arg, have)
		}
	}
	for arg, want := range map[string]string{
		"www.example.com": "www.example.com:443", "https://www.example.com/x": "www.example.com:443", "ldaps://dc:636": "dc:636", "::1": "[::1]:443", "[::1]": "[::1]:443",
		"www.example.com:https": "www.example.com:443", "localhost:99999": "localhost:443", "localhost:0": "localhost:443",
	} {
		if have := endpointHint(arg); have != "a live endpoint is HOST:PORT, such as "+want {
			t.Errorf("endpointHint(%q) is %q", arg, have)
		}
	}
	for _, arg := range []string{"-", "", "web", "web.crt", "jane.p12", "pki/web.crt", `C:\web.crt`} {
		if have := endpointHint(arg); have != "" {
			t.Errorf("endpointHint(%q) is %q", arg, have)
		}
	}
}
