package examples

import (
	"net"
	"strings"
	"testing"
)

// inspect sees what certsync tells of the server: that alice is let in, and why others
// are not, in TLS 1.3 and 1.2.
func (s *service) inspect(t *testing.T) {
	for _, version := range []string{"1.3", "1.2"} {
		for _, test := range []struct{ client, want string }{
			{"alice", `the server accepts "alice"`},
			{"stranger", "the alert unknown_ca (48)"},
			{"wrong-usage", "the alert unsupported_certificate (43)"},
		} {
			args := append([]string{"inspect", "--tls-version", version, "--handshake", "--as", test.client}, s.inspectFlags...)
			out, err := s.run(certsync, append(args, net.JoinHostPort("localhost", s.port))...)
			ok := test.client == "alice"
			if s.judgesLater {
				ok, test.want = true, `the server accepts "`+test.client+`" in it, and clients without a certificate, too`
			}
			if (err == nil) != ok || !strings.Contains(out, test.want) || !strings.Contains(out, `yes, by issuer "ca" of the spec`) {
				t.Errorf("as %s in TLS %s, which is to say %q: %v\n%s", test.client, version, test.want, err, out)
			}
		}
	}
}
