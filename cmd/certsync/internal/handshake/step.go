package handshake

import "time"

// Side is one end of the connection.
type Side string

// The sides.
const (
	Client Side = "client"
	Server Side = "server"
)

// Step is one message, as it passed. Which of the fields below Encrypted are set
// depends on the message.
type Step struct {
	From    Side   `json:"from"`
	Message string `json:"message"` // as RFC 8446 and RFC 5246 name it, in words
	// Encrypted tells a message that passed encrypted.
	Encrypted bool `json:"encrypted,omitempty"`

	ClientHello  *ClientHello        `json:"clientHello,omitempty"`
	ServerHello  *ServerHello        `json:"serverHello,omitempty"`
	ALPN         string              `json:"alpn,omitempty"`
	Request      *CertificateRequest `json:"certificateRequest,omitempty"`
	Certificates *[]Certificate      `json:"certificates,omitempty"` // empty for a client that shows none
	Group        string              `json:"group,omitempty"`        // of a TLS 1.2 key exchange
	Scheme       string              `json:"signatureScheme,omitempty"`
	Ticket       *Ticket             `json:"ticket,omitempty"`
	Alert        *Alert              `json:"alert,omitempty"`
	Bytes        int                 `json:"bytes,omitempty"` // of what has no other description
}

// The messages that others look for by name.
const (
	msgClientHello        = "client hello"
	msgServerHello        = "server hello"
	msgHelloRetryRequest  = "hello retry request"
	msgCertificate        = "certificate"
	msgCertificateRequest = "certificate request"
	msgFinished           = "finished"
	msgAlert              = "alert"
	msgApplicationData    = "application data"
	msgChangeCipherSpec   = "change cipher spec"
	msgNotTLS             = "not TLS"
	msgServerHelloDone    = "server hello done"
	msgMore               = "more messages"
)

// ClientHello is what a client offers.
type ClientHello struct {
	Versions         []string `json:"versions"` // best first
	Random           string   `json:"random"`   // hexadecimal
	ServerName       string   `json:"serverName,omitempty"`
	CipherSuites     []string `json:"cipherSuites"`
	Groups           []string `json:"groups,omitempty"`
	KeyShares        []string `json:"keyShares,omitempty"` // groups
	SignatureSchemes []string `json:"signatureSchemes,omitempty"`
	ALPN             []string `json:"alpn,omitempty"`
}

// ServerHello is what a server chose.
type ServerHello struct {
	Version     string `json:"version"`
	Random      string `json:"random"` // hexadecimal
	CipherSuite string `json:"cipherSuite"`
	Group       string `json:"group,omitempty"` // TLS 1.3
	ALPN        string `json:"alpn,omitempty"`  // TLS 1.2
}

// CertificateRequest is what a server asks of clients.
type CertificateRequest struct {
	// CAs are the subjects of the CAs that are acceptable. None means that the
	// server does not tell.
	CAs              []string `json:"acceptableCAs"`
	SignatureSchemes []string `json:"signatureSchemes,omitempty"`
	// Types are the kinds of keys of TLS 1.2.
	Types []string `json:"certificateTypes,omitempty"`

	rawCAs  [][]byte // DER
	schemes []uint16
	types   []byte
}

// Certificate is one that a side showed.
type Certificate struct {
	Subject  string    `json:"subject"`
	Names    []string  `json:"names,omitempty"` // DNS names and IP addresses
	Issuer   string    `json:"issuer"`
	NotAfter time.Time `json:"notAfter,omitzero"`
	// Problem is why it could not be decoded; then the others are empty.
	Problem string `json:"problem,omitempty"`

	der []byte
}

// Ticket lets a client resume the session.
type Ticket struct {
	Lifetime uint32 `json:"lifetimeSeconds"`
}

// Alert is what a side says before it ends the connection.
type Alert struct {
	Code uint8 `json:"code"`
	// Name is as RFC 8446 spells it, unknown_ca, or empty for a code without one.
	Name  string `json:"name"`
	Fatal bool   `json:"fatal"`
}
