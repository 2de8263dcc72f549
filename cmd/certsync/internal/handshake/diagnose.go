package handshake

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
)

// Verdict says in words how a handshake ended.
type Verdict struct {
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"` // how to mend it; may be empty
}

// Circumstances are what an Observation does not know.
type Circumstances struct {
	// As names the certificate that was to be shown; empty for none.
	As string
	// Objections are what is wrong with that certificate; see Identity.Objections.
	Objections []Objection
	// Offered is what was offered for ALPN.
	Offered []string
	// StartTLS is the protocol in which TLS was begun; empty for none.
	StartTLS string
	// Weak is a second attempt with old versions and ciphers; nil for none.
	Weak *Observation
	// Without is a second attempt that showed no certificate; nil for none.
	Without *Observation
}

// Explain says how the handshake ended, and what to do about it.
func (ob *Observation) Explain(c Circumstances) Verdict {
	switch {
	case ob.Outcome == Accepted, ob.Outcome == Unclear:
		return ob.explainDone(c)
	case len(ob.NotTLS) > 0:
		return explainNotTLS(ob.NotTLS, c.StartTLS)
	case ob.TimedOut:
		v := Verdict{Text: "the server did not go on with the handshake in time"}
		if ob.Version == "" && c.StartTLS == "" {
			v.Hint = "is it TLS what is served there? Some protocols begin without: see --starttls"
		}
		return v
	case c.Weak != nil && c.Weak.Version != "" && !ob.offered(c.Weak.Version, c.Weak.CipherSuite):
		return ob.explainWeak(c.Weak)
	}
	v := Verdict{Text: ob.ending()}
	switch {
	case ob.From == Client:
		v.Text += why(ob.Err)
	case ob.Version == "":
		v = ob.explainHello(v, c)
	case ob.Request != nil && ob.Shown == 0 && c.As == "":
		if ob.Closed {
			v.Text += ": it seems to require a client certificate"
		} else {
			v.Text = "the server requires a client certificate: " + v.Text
		}
		v.Hint = "show one of the spec with --as NAME"
		if len(ob.Request.CAs) > 0 {
			v.Hint += "; it has to be signed by " + oneOf(ob.Request.CAs)
		}
	case ob.Shown > 0:
		v = ob.explainShown(v, c)
	case ob.Closed:
		v.Hint = "the server's log may tell why"
	}
	return v
}

// ending says who ended the handshake, and how.
func (ob *Observation) ending() string {
	switch {
	case ob.Alert != nil && ob.From == Client:
		return "the client ended the handshake with the alert " + ob.Alert.String()
	case ob.Alert != nil && ob.Done:
		return "the server answered the handshake with the alert " + ob.Alert.String()
	case ob.Alert != nil:
		return "the server ended the handshake with the alert " + ob.Alert.String()
	case ob.Closed && ob.Done:
		return "the server closed the connection right after the handshake, without saying why"
	case ob.Closed:
		return "the server closed the connection during the handshake, without an alert"
	}
	return "the handshake failed" + why(ob.Err)
}

// offered tells whether the client offered a version, and a cipher suite unless
// that is empty.
func (ob *Observation) offered(version, suite string) bool {
	return slices.ContainsFunc(ob.Steps, func(s Step) bool {
		h := s.ClientHello
		return h != nil && slices.Contains(h.Versions, version) && (suite == "" || slices.Contains(h.CipherSuites, suite))
	})
}

// goTypes are the messages of a handshake as crypto/tls calls them.
var goTypes = regexp.MustCompile(`\*tls\.(\w+?)(MsgTLS13|Msg)\b`)

func why(err error) string {
	var op *net.OpError
	if err == nil || errors.As(err, &op) && op.Op == "local error" { // the alert, once more
		return ""
	}
	return ": " + goTypes.ReplaceAllString(strings.TrimPrefix(err.Error(), "tls: "), "$1")
}

func (ob *Observation) explainDone(c Circumstances) Verdict {
	v := Verdict{Text: "the handshake succeeds"}
	switch {
	case ob.Outcome == Unclear:
		v.Text = "the handshake is done, but the server gives no sign of whether it accepts it"
		v.Hint = "the server's log may tell"
	case ob.Request == nil && c.As != "":
		v.Text += fmt.Sprintf("; the server asks for no client certificate, so %q was not shown", c.As)
		v.Hint = "a server may be set to ask only for some names (--server-name), or only for some paths after the handshake"
	case ob.Request == nil:
		v.Text += "; the server asks for no client certificate"
	case c.As == "":
		v.Text += " without a client certificate, although the server asks for one"
		v.Hint = "the program behind may still refuse who shows none; try one with --as NAME"
	case c.Without != nil && c.Without.Outcome == Accepted:
		v.Text += fmt.Sprintf("; the server accepts %q in it, and clients without a certificate, too", c.As)
		v.Hint = "whether this certificate counts is up to the program behind, which may still refuse it, over HTTP with 400, 401 or 403"
	case len(c.Objections) > 0:
		v.Text += fmt.Sprintf("; the server accepts %q in it, in spite of what is wrong with it", c.As)
		v.Hint = "it does not check that in the handshake; the program behind may, and refuse it, over HTTP with 400, 401 or 403"
	default:
		v.Text += fmt.Sprintf("; the server accepts %q", c.As)
	}
	return v
}

func explainNotTLS(data []byte, startTLS string) Verdict {
	v := Verdict{Text: "the server does not speak TLS on this port"}
	if startTLS != "" {
		return Verdict{Text: "the server agreed to start TLS, but what it sent then is not TLS"}
	}
	switch text := strings.ToLower(string(data)); {
	case strings.HasPrefix(text, "http/"), strings.HasPrefix(text, "<!doctype html"), strings.HasPrefix(text, "<html"):
		v.Text += ", but HTTP"
		v.Hint = "HTTPS has another port, usually 443"
	case strings.HasPrefix(text, "220"), strings.HasPrefix(text, "* ok"), strings.HasPrefix(text, "+ok"):
		v.Hint = "it may speak it later: see --starttls"
	case strings.HasPrefix(text, "ssh-"):
		v.Text += ", but SSH"
	default:
		v.Hint = "some protocols begin without TLS: see --starttls"
	}
	return v
}

// explainWeak is about servers that take what was not offered at first.
func (ob *Observation) explainWeak(weak *Observation) Verdict {
	if weak.Version == "TLS 1.2" && !ob.offered(weak.Version, "") {
		return Verdict{ob.ending() + ": it speaks TLS 1.2, which was not offered", "leave out --tls-version, or configure the server for TLS 1.3"}
	}
	return Verdict{fmt.Sprintf("%s: it wants %s with %s, which clients of today do not offer", ob.ending(), weak.Version, weak.CipherSuite),
		"configure the server for TLS 1.2 or 1.3 with ECDHE and AES-GCM or ChaCha20-Poly1305"}
}

// explainHello is about servers that did not like the client's hello.
func (ob *Observation) explainHello(v Verdict, c Circumstances) Verdict {
	if ob.Alert == nil {
		v.Hint = "the server may have no certificate for this name (--server-name)"
		if c.StartTLS == "" {
			v.Hint += ", or the port is not for TLS, or only after another protocol (--starttls)"
		}
		return v
	}
	switch ob.Alert.Code {
	case 70:
		v.Text += ": it speaks none of the offered versions of TLS"
	case 40, 71:
		v.Text += ": it has no cipher, group or signature scheme in common with the offer, or no certificate that fits"
		v.Hint = "look into the server's log, at its ciphers and at the type of its key"
	case 112:
		v.Text += ": it knows no such name"
		v.Hint = "give the name that it serves with --server-name"
	case 120:
		v.Text += fmt.Sprintf(": it speaks none of %s", strings.Join(c.Offered, ", "))
		v.Hint = "give its protocols with --alpn, or --alpn '' for none"
	case 116:
		v.Text += ": it requires a client certificate"
	}
	return v
}

// refusals say what alerts are about that answer a client certificate (RFC 8446,
// section 6.2).
var refusals = map[uint8]string{
	40: "it does not say why",
	42: "it does not accept the certificate, for instance because its signature or its CA is not right",
	43: "it does not accept that kind of certificate: usually the usage client auth is missing",
	44: "the certificate was revoked",
	45: "the certificate has expired, or is not valid yet by the server's clock",
	46: "it does not accept the certificate, and does not say why",
	48: "it does not trust the CA that signed the certificate, or an intermediate is missing",
	49: "it does not let in whom the certificate names, or, with GnuTLS, does not accept the certificate",
	51: "the signature made with the private key is not right: the key is not that of the certificate",
	80: "something went wrong in the server",
}

// explainShown is about servers that did not like the client's certificate.
func (ob *Observation) explainShown(v Verdict, c Circumstances) Verdict {
	if ob.Closed {
		v.Text += fmt.Sprintf(": it seems to refuse the certificate %q", c.As)
	} else {
		v.Text = fmt.Sprintf("the server refused the certificate %q: %s", c.As, v.Text)
	}
	if ob.Alert != nil && refusals[ob.Alert.Code] != "" {
		v.Text += ": " + refusals[ob.Alert.Code]
	}
	switch {
	case len(c.Objections) > 0:
		var hints []string
		for _, o := range c.Objections {
			if !slices.Contains(hints, o.Hint) {
				hints = append(hints, o.Hint)
			}
		}
		v.Hint = strings.Join(hints, "; ")
	case len(ob.Request.CAs) == 0:
		v.Hint = "the server does not tell which CAs it accepts: see that its client CAs hold the root of this certificate"
	case ob.Alert != nil && ob.Alert.Code == 48:
		v.Hint = "a CA of that name is asked for, but it may be another one, with another key: compare its fingerprint with the server's"
	default:
		v.Hint = "nothing is wrong with it as far as can be told from here; the server's log may tell more"
	}
	return v
}

// IsAboutTheOffer tells of a failure that another offer of versions and ciphers
// might avoid.
func (ob *Observation) IsAboutTheOffer() bool {
	switch {
	case ob.Done || len(ob.NotTLS) > 0 || ob.TimedOut || ob.Chain != nil:
		return false
	case ob.Alert == nil:
		return ob.Closed
	case ob.From == Client:
		return ob.Alert.Code == 70
	}
	return ob.Alert.Code == 70 || ob.Alert.Code == 40 || ob.Alert.Code == 71
}

// oneOf lists some of many.
func oneOf(names []string) string {
	const most = 3
	quoted := make([]string, 0, most+1)
	for i, n := range names {
		if i == most {
			quoted = append(quoted, fmt.Sprintf("%d others", len(names)-most))
			break
		}
		quoted = append(quoted, `"`+n+`"`)
	}
	return strings.Join(quoted, " or ")
}
