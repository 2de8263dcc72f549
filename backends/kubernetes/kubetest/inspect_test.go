package kubetest

import (
	"strings"
	"testing"
)

// testInspect looks at the apiserver, which asks for certificates and judges them
// only when a request comes, and at etcd, which judges them in the handshake.
func testInspect(t *testing.T, c *ControlPlane) {
	apiserver, etcd := strings.TrimPrefix(c.URL, "https://"), strings.TrimPrefix(c.EtcdURL, "https://")
	for _, test := range []struct {
		args []string
		ok   bool
		want []string
	}{
		{[]string{apiserver}, true, []string{
			"certificate is asked for", "CN=kubernetes", "CN=front-proxy-ca", `yes, by issuer "ca" of the spec`, "it is for 127.0.0.1", "ALPN:          h2",
			"succeeds without a client certificate, although the server asks for one",
		}},
		{[]string{"--as", "admin", "--handshake", apiserver}, true, []string{"client → server  certificate verify, encrypted", `the server accepts "admin"`}},
		{[]string{"--as", "stranger", apiserver}, true, []string{`the server accepts "stranger" in it, and clients without a certificate, too`, "may still refuse it, over HTTP with 400, 401 or 403"}},
		{[]string{etcd}, true, []string{`yes, by issuer "etcd-ca" of the spec`, "CN=etcd-ca", "the server requires a client certificate"}},
		{[]string{"--as", "etcd-healthcheck-client", etcd}, true, []string{`the server accepts "etcd-healthcheck-client"`}},
		{[]string{"--as", "admin", etcd}, false, []string{`the server refused the certificate "admin"`, "not among the CAs that the server asks for"}},
	} {
		out, err := c.Certsync(t.Context(), append([]string{"inspect"}, test.args...)...)
		if (err == nil) != test.ok {
			t.Errorf("inspect %q: %v", test.args, err)
		}
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("inspect %q does not say %q:\n%s", test.args, want, out)
			}
		}
	}
}
