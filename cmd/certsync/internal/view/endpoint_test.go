package view

import (
	"bytes"
	"strings"
	"testing"

	"github.com/certsync/certsync/cmd/certsync/internal/handshake"
	"github.com/certsync/certsync/reconcile/pki"
)

// refused is a handshake with each thing that a step can say.
func refused() []handshake.Step {
	return []handshake.Step{
		{From: handshake.Client, Message: "client hello", ClientHello: &handshake.ClientHello{
			Versions: []string{"TLS 1.3", "TLS 1.2"}, Random: strings.Repeat("c1", 32), ServerName: "web.example.com",
			CipherSuites: []string{"TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"}, Groups: []string{"X25519", "P-256"},
			KeyShares: []string{"X25519"}, SignatureSchemes: []string{"ed25519"}, ALPN: []string{"h2", "http/1.1"}}},
		{From: handshake.Server, Message: "server hello", ServerHello: &handshake.ServerHello{
			Version: "TLS 1.3", Random: strings.Repeat("5e", 32), CipherSuite: "TLS_AES_128_GCM_SHA256", Group: "X25519"}},
		{From: handshake.Server, Message: "change cipher spec"},
		{From: handshake.Server, Message: "encrypted extensions", Encrypted: true, ALPN: "h2\x1b[2J"},
		{From: handshake.Server, Message: "certificate request", Encrypted: true, Request: &handshake.CertificateRequest{
			CAs: []string{"CN=my root", "CN=other"}, SignatureSchemes: []string{"ed25519"}}},
		{From: handshake.Server, Message: "certificate", Encrypted: true, Certificates: &[]handshake.Certificate{
			{Names: []string{"web.example.com"}, Issuer: "CN=my root", NotAfter: days(30)}, {Problem: "x509: malformed\ncertificate"}}},
		{From: handshake.Server, Message: "server key exchange", Group: "P-256", Scheme: "ecdsa_secp256r1_sha256"},
		{From: handshake.Client, Message: "certificate", Encrypted: true, Certificates: &[]handshake.Certificate{}},
		{From: handshake.Server, Message: "new session ticket", Encrypted: true, Ticket: &handshake.Ticket{Lifetime: 7200}},
		{From: handshake.Server, Message: "application data", Encrypted: true, Bytes: 15},
		{From: handshake.Server, Message: "alert", Encrypted: true, Alert: &handshake.Alert{Code: 48, Name: "unknown_ca", Fatal: true}},
		{From: handshake.Server, Message: "alert", Encrypted: true, Alert: &handshake.Alert{Code: 254, Fatal: true}},
	}
}

func TestInspectedEndpoints(t *testing.T) {
	leaf := &pki.CertificateInfo{Issuer: "CN=my root", Serial: "01", NotBefore: days(-1), NotAfter: days(30),
		NamesInfo: pki.NamesInfo{DNSNames: []string{"web.example.com"}},
		PublicKey: pki.PublicKeyInfo{Algorithm: "ECDSA", Size: 256, Fingerprint: fingerprint(7)}, SignatureAlgorithm: "ECDSA-SHA256", Fingerprint: fingerprint(8)}
	request := &handshake.CertificateRequest{CAs: []string{"CN=my root", "CN=other"}, SignatureSchemes: []string{"ed25519", "rsa_pss_rsae_sha256"}, Types: []string{"RSA", "ECDSA"}}
	full := InspectedEndpoint{
		Endpoint: "web.example.com:443", Address: "192.0.2.1:443", ServerName: "web.example.com", StartTLS: "smtp", Outcome: handshake.Refused,
		Protocol: "TLS 1.2", CipherSuite: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", KeyExchange: "X25519", ALPN: "h2",
		Ticket: &handshake.Ticket{Lifetime: 7200}, OCSPStapled: true, SCTs: 2,
		Trust:              &EndpointTrust{By: "the system's roots", Problem: "no chain", Name: "web.example.com", NameProblem: "it is for others"},
		ClientCertificates: &ClientCertificates{Requested: true, Request: request, Name: "jane", Shown: true, Objections: []handshake.Objection{{Text: "it expired", Hint: "renew it"}, {Text: "it lacks the usage client auth"}}},
		Verdict:            &handshake.Verdict{Text: "the server refused it", Hint: "mend it"},
		Chain:              EndpointChain([]*pki.CertificateInfo{leaf}),
	}
	told := full
	told.Endpoint, told.Handshake = "web.example.com:8443", refused()
	open := InspectedEndpoint{
		Endpoint: "[2001:db8::1]:443", Address: "[2001:db8::1]:443", Outcome: handshake.Accepted, Protocol: "TLS 1.3", CipherSuite: "TLS_AES_128_GCM_SHA256", KeyExchange: "X25519",
		Trust:              &EndpointTrust{OK: true, By: `issuer "root" of the spec`, Name: "2001:db8::1", NameOK: true},
		ClientCertificates: &ClientCertificates{},
		Verdict:            &handshake.Verdict{Text: "the handshake succeeds"},
		Chain:              EndpointChain([]*pki.CertificateInfo{leaf}),
	}
	down := InspectedEndpoint{Endpoint: "down.example.com:443", Chain: EndpointChain(nil), Error: "inspect down.example.com:443: connection refused"}
	report := Inspection(nil, []InspectedEndpoint{full, told, open, down})
	report.Time = now
	var text, js bytes.Buffer
	if err := InspectionText(&text, report); err != nil {
		t.Fatal(err)
	}
	golden(t, "endpoint.txt", text.Bytes())
	if err := JSON(&js, report); err != nil {
		t.Fatal(err)
	}
	golden(t, "endpoint.json", js.Bytes())
	if bytes.ContainsRune(text.Bytes(), 0x1b) {
		t.Error("a server can move the cursor")
	}
}
