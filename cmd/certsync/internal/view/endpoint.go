package view

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/certsync/certsync/cmd/certsync/internal/handshake"
	"github.com/certsync/certsync/reconcile/pki"
)

// InspectedEndpoint is what was found at one live endpoint.
type InspectedEndpoint struct {
	Endpoint   string `json:"endpoint"`             // as it was given
	Address    string `json:"address,omitempty"`    // the one that answered
	ServerName string `json:"serverName,omitempty"` // SNI, if one was sent
	StartTLS   string `json:"startTLS,omitempty"`
	// Outcome is empty if there was no connection.
	Outcome     handshake.Outcome `json:"outcome,omitempty"`
	Protocol    string            `json:"protocol,omitempty"`
	CipherSuite string            `json:"cipherSuite,omitempty"`
	KeyExchange string            `json:"keyExchange,omitempty"`
	ALPN        string            `json:"alpn,omitempty"`
	// Ticket is set if the session can be resumed.
	Ticket      *handshake.Ticket `json:"sessionTicket,omitempty"`
	OCSPStapled bool              `json:"ocspStapled,omitempty"`
	SCTs        int               `json:"signedCertificateTimestamps,omitempty"`

	Trust              *EndpointTrust      `json:"trust,omitempty"` // nil without a certificate
	ClientCertificates *ClientCertificates `json:"clientCertificates,omitempty"`
	Verdict            *handshake.Verdict  `json:"verdict,omitempty"`
	Chain              []InspectedItem     `json:"chain"` // as served
	// Handshake are its steps; only if they were asked for.
	Handshake []handshake.Step `json:"handshake,omitempty"`
	Error     string           `json:"error,omitempty"` // without a connection, or without TLS
}

// EndpointTrust tells what a client that verifies would say.
type EndpointTrust struct {
	OK bool `json:"ok"`
	// By tells what the chain leads to, or what it was to lead to.
	By      string `json:"by"`
	Problem string `json:"problem,omitempty"`

	Name        string `json:"name"`
	NameOK      bool   `json:"nameOK"`
	NameProblem string `json:"nameProblem,omitempty"`
}

// ClientCertificates tells what the server does about certificates of clients.
type ClientCertificates struct {
	Requested bool `json:"requested"`
	// Request is set if the server asked for one.
	Request *handshake.CertificateRequest `json:"request,omitempty"`
	// Name is the certificate of the spec that was to be tried; empty for none.
	Name string `json:"name,omitempty"`
	// Shown tells that it was, or, without one, that none was.
	Shown      bool                  `json:"shown"`
	Objections []handshake.Objection `json:"objections,omitempty"`
}

func (s *sheet) endpoint(e *InspectedEndpoint) {
	if e.Handshake != nil {
		s.title(printable(e.Endpoint) + ": handshake")
		s.steps(e)
		s.trust(e.Trust)
		s.shown(e.ClientCertificates)
		s.verdict(e)
		return
	}
	s.title(printable(e.Endpoint) + ": endpoint")
	s.line("address", e.Address)
	s.line("server name", e.ServerName)
	s.line("begun in", e.StartTLS)
	s.line("protocol", e.Protocol)
	s.line("cipher", e.CipherSuite)
	s.line("key exchange", e.KeyExchange)
	s.line("ALPN", e.ALPN)
	s.lines("session", sessionWords(e))
	s.trust(e.Trust)
	s.clientCertificates(e)
	s.verdict(e)
	s.items(e.Endpoint, e.Chain)
}

func sessionWords(e *InspectedEndpoint) []string {
	var words []string
	if e.Ticket != nil {
		words = append(words, "ticket for "+(time.Duration(e.Ticket.Lifetime)*time.Second).String())
	}
	if e.OCSPStapled {
		words = append(words, "OCSP response stapled")
	}
	if e.SCTs > 0 {
		words = append(words, fmt.Sprintf("%d certificate timestamps", e.SCTs))
	}
	return words
}

func (s sheet) trust(t *EndpointTrust) {
	if t == nil {
		return
	}
	if t.OK {
		s.painted("trusted", s.p.paint(green, "yes")+", by "+printable(t.By))
	} else {
		s.painted("trusted", s.p.paint(red, "no")+", not by "+printable(t.By)+": "+printable(t.Problem))
	}
	if t.NameOK {
		s.painted("name", s.p.paint(green, "right")+": it is for "+printable(t.Name))
	} else {
		s.painted("name", s.p.paint(red, "wrong")+": "+printable(t.NameProblem))
	}
}

func (s sheet) clientCertificates(e *InspectedEndpoint) {
	c := e.ClientCertificates
	if c == nil {
		return
	}
	if !c.Requested {
		s.line("client", "no certificate is asked for")
		return
	}
	s.line("client", "a certificate is asked for")
	if len(c.Request.CAs) == 0 {
		s.line("of CAs", "not told")
	}
	for _, ca := range c.Request.CAs {
		s.line("of CA", ca)
	}
	s.lines("key types", c.Request.Types)
	s.lines("signatures", c.Request.SignatureSchemes)
	s.shown(c)
}

// shown tells what certsync itself finds wrong with the certificate of the spec.
func (s sheet) shown(c *ClientCertificates) {
	if c == nil || c.Name == "" {
		return
	}
	if !c.Shown {
		s.line("as", c.Name+", not shown")
		return
	}
	s.line("as", c.Name+", shown")
	for _, o := range c.Objections {
		s.painted("problem", s.p.paint(yellow, printable(o.Text)))
	}
}

func (s sheet) verdict(e *InspectedEndpoint) {
	if e.Verdict == nil {
		return
	}
	color := red
	switch e.Outcome {
	case handshake.Accepted:
		color = green
	case handshake.Unclear:
		color = yellow
	}
	s.painted("verdict", s.p.paint(color, printable(e.Verdict.Text)))
	s.line("hint", e.Verdict.Hint)
}

// steps tells the handshake, message by message.
func (s sheet) steps(e *InspectedEndpoint) {
	for i := range e.Handshake {
		st := &e.Handshake[i]
		arrow := "client → server"
		if st.From == handshake.Server {
			arrow = "client ← server"
		}
		what := printable(st.Message)
		if st.Encrypted {
			what += ", encrypted"
		}
		color := bold
		if st.Alert != nil && st.Alert.Fatal {
			color = red
		}
		fmt.Fprintf(s.w, "%3d  %s  %s\n", i+1, arrow, s.p.paint(color, what))
		s.step(st)
	}
}

func (s sheet) step(st *handshake.Step) {
	detail := func(label, value string) {
		if value != "" {
			fmt.Fprintf(s.w, "       %-14s %s\n", label+":", printable(value))
		}
	}
	list := func(label string, values []string) { detail(label, strings.Join(values, ", ")) }
	if h := st.ClientHello; h != nil {
		list("versions", h.Versions)
		detail("random", h.Random)
		detail("server name", h.ServerName)
		list("ciphers", h.CipherSuites)
		list("groups", h.Groups)
		list("key shares", h.KeyShares)
		list("signatures", h.SignatureSchemes)
		list("ALPN", h.ALPN)
	}
	if h := st.ServerHello; h != nil {
		detail("version", h.Version)
		detail("random", h.Random)
		detail("cipher", h.CipherSuite)
		detail("group", h.Group)
		detail("ALPN", h.ALPN)
	}
	detail("ALPN", st.ALPN)
	if r := st.Request; r != nil {
		if len(r.CAs) == 0 {
			detail("of CAs", "not told")
		}
		for _, ca := range r.CAs {
			detail("of CA", ca)
		}
		list("key types", r.Types)
		list("signatures", r.SignatureSchemes)
	}
	if st.Certificates != nil {
		for _, c := range *st.Certificates {
			if c.Problem != "" {
				detail("malformed", c.Problem)
				continue
			}
			who := cmp.Or(c.Subject, strings.Join(c.Names, ", "), "no subject")
			detail("certificate", fmt.Sprintf("%s; issuer %s; until %s", who, cmp.Or(c.Issuer, "no name"), date(c.NotAfter)))
		}
		if len(*st.Certificates) == 0 {
			detail("certificate", "none")
		}
	}
	detail("group", st.Group)
	detail("signature", st.Scheme)
	if st.Ticket != nil {
		detail("lifetime", (time.Duration(st.Ticket.Lifetime) * time.Second).String())
	}
	if st.Alert != nil {
		detail("alert", st.Alert.String())
	}
	if st.Bytes > 0 {
		detail("bytes", fmt.Sprint(st.Bytes))
	}
}

// EndpointChain makes the items of a served chain.
func EndpointChain(chain []*pki.CertificateInfo) []InspectedItem {
	items := make([]InspectedItem, 0, len(chain))
	for _, c := range chain {
		items = append(items, InspectedItem{Item: pki.Item{Type: pki.ItemCertificate, Certificate: c}})
	}
	return items
}
