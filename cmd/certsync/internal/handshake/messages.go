package handshake

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/certsync/certsync/reconcile/pki"
)

// The extensions that are told (RFC 8446, section 4.2).
const (
	extServerName          = 0
	extSupportedGroups     = 10
	extSignatureAlgorithms = 13
	extALPN                = 16
	extSupportedVersions   = 43
	extAuthorities         = 47
	extKeyShare            = 51
)

// messageNames are the handshake messages (RFC 8446, section 4; RFC 5246, section
// 7.4; RFC 6066, section 8; RFC 8879, section 4).
var messageNames = map[byte]string{
	0: "hello request", 1: msgClientHello, 2: msgServerHello, 4: "new session ticket",
	5: "end of early data", 8: "encrypted extensions", 11: msgCertificate,
	12: "server key exchange", 13: msgCertificateRequest, 14: msgServerHelloDone,
	15: "certificate verify", 16: "client key exchange", 20: msgFinished,
	22: "certificate status", 24: "key update", 25: "compressed certificate",
}

func messageName(kind byte) string {
	if name := messageNames[kind]; name != "" {
		return name
	}
	return fmt.Sprintf("handshake message of type %d", kind)
}

// handshake decodes one message and changes keys where it makes the sides do so.
func (w *wire) handshake(from Side, kind byte, body []byte, encrypted bool) {
	step := Step{From: from, Message: messageName(kind), Encrypted: encrypted}
	s := cryptobyte.String(body)
	ok := true
	v13 := w.version == tls.VersionTLS13
	h := w.halves[from]
	switch kind {
	case 1:
		ok = w.readClientHello(&s, &step)
	case 2:
		ok = w.readServerHello(&s, &step)
	case 4:
		var t Ticket
		ok = s.ReadUint32(&t.Lifetime)
		step.Ticket = &t
	case 8:
		ok = readExtensions(&s, func(typ uint16, ext *cryptobyte.String) bool {
			return typ != extALPN || readALPN(ext, &step.ALPN)
		})
	case 11:
		ok = readCertificates(&s, &step, v13)
	case 12:
		step.Group, step.Scheme, ok = readKeyExchange(&s, w.version)
	case 13:
		step.Request = &CertificateRequest{CAs: []string{}}
		if v13 {
			ok = readRequest13(&s, step.Request)
		} else {
			ok = readRequest12(&s, step.Request, w.version)
		}
	case 15:
		if w.version >= tls.VersionTLS12 {
			var scheme uint16
			ok = s.ReadUint16(&scheme)
			step.Scheme = schemeName(scheme)
		}
	}
	if !ok {
		step = Step{From: from, Message: "malformed " + step.Message, Encrypted: encrypted, Bytes: len(body)}
	}
	w.add(step)
	switch {
	case kind == 20 && v13:
		h.enter(applicationKeys)
	case kind == 24 && v13:
		w.update(h)
	}
}

func (w *wire) readClientHello(s *cryptobyte.String, step *Step) bool {
	var legacy uint16
	var random []byte
	var session, suites, compression cryptobyte.String
	hello := &ClientHello{}
	if !s.ReadUint16(&legacy) || !s.ReadBytes(&random, 32) || !s.ReadUint8LengthPrefixed(&session) ||
		!s.ReadUint16LengthPrefixed(&suites) || !s.ReadUint8LengthPrefixed(&compression) {
		return false
	}
	w.clientRandom, hello.Random = random, hex.EncodeToString(random)
	hello.Versions = []string{versionName(legacy)}
	step.ClientHello = hello
	return readList(suites, suiteName, &hello.CipherSuites) && (s.Empty() || readExtensions(s, func(typ uint16, ext *cryptobyte.String) bool {
		var list cryptobyte.String
		switch typ {
		case extServerName:
			return readServerName(ext, &hello.ServerName)
		case extSupportedGroups:
			return ext.ReadUint16LengthPrefixed(&list) && readList(list, groupName, &hello.Groups)
		case extSignatureAlgorithms:
			return ext.ReadUint16LengthPrefixed(&list) && readList(list, schemeName, &hello.SignatureSchemes)
		case extALPN:
			return readProtocols(ext, &hello.ALPN)
		case extSupportedVersions:
			hello.Versions = nil
			return ext.ReadUint8LengthPrefixed(&list) && readList(list, versionName, &hello.Versions)
		case extKeyShare:
			return readKeyShares(ext, &hello.KeyShares)
		}
		return true
	}))
}

// helloRetryRequest is the random of a server hello that is none (RFC 8446,
// section 4.1.3).
var helloRetryRequest, _ = hex.DecodeString("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")

func (w *wire) readServerHello(s *cryptobyte.String, step *Step) bool {
	var version, id uint16
	var random []byte
	var session cryptobyte.String
	var compression uint8
	if !s.ReadUint16(&version) || !s.ReadBytes(&random, 32) || !s.ReadUint8LengthPrefixed(&session) ||
		!s.ReadUint16(&id) || !s.ReadUint8(&compression) {
		return false
	}
	hello := &ServerHello{Random: hex.EncodeToString(random), CipherSuite: suiteName(id)}
	step.ServerHello = hello
	retry := bytes.Equal(random, helloRetryRequest)
	if retry {
		step.Message = msgHelloRetryRequest
	}
	ok := s.Empty() || readExtensions(s, func(typ uint16, ext *cryptobyte.String) bool {
		switch typ {
		case extSupportedVersions:
			return ext.ReadUint16(&version)
		case extKeyShare:
			var group uint16
			ok := ext.ReadUint16(&group)
			hello.Group = groupName(group)
			return ok
		case extALPN:
			return readALPN(ext, &hello.ALPN)
		}
		return true
	})
	hello.Version = versionName(version)
	if !ok || retry {
		return ok
	}
	w.version, w.suite, w.serverRandom = version, id, random
	if version == tls.VersionTLS13 {
		w.halves[Client].enter(handshakeKeys)
		w.halves[Server].enter(handshakeKeys)
	}
	return true
}

func readExtensions(s *cryptobyte.String, each func(typ uint16, ext *cryptobyte.String) bool) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var typ uint16
		var ext cryptobyte.String
		if !list.ReadUint16(&typ) || !list.ReadUint16LengthPrefixed(&ext) || !each(typ, &ext) {
			return false
		}
	}
	return true
}

func readList(s cryptobyte.String, name func(uint16) string, out *[]string) bool {
	for !s.Empty() {
		var id uint16
		if !s.ReadUint16(&id) {
			return false
		}
		*out = append(*out, name(id))
	}
	return true
}

func readServerName(s *cryptobyte.String, out *string) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var typ uint8
		var name cryptobyte.String
		if !list.ReadUint8(&typ) || !list.ReadUint16LengthPrefixed(&name) {
			return false
		}
		if typ == 0 {
			*out = string(name)
		}
	}
	return true
}

func readProtocols(s *cryptobyte.String, out *[]string) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var name cryptobyte.String
		if !list.ReadUint8LengthPrefixed(&name) {
			return false
		}
		*out = append(*out, string(name))
	}
	return true
}

func readALPN(s *cryptobyte.String, out *string) bool {
	var list []string
	if !readProtocols(s, &list) || len(list) != 1 {
		return false
	}
	*out = list[0]
	return true
}

func readKeyShares(s *cryptobyte.String, out *[]string) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var group uint16
		var share cryptobyte.String
		if !list.ReadUint16(&group) || !list.ReadUint16LengthPrefixed(&share) {
			return false
		}
		*out = append(*out, groupName(group))
	}
	return true
}

// readCertificates reads RFC 8446, section 4.4.2, or RFC 5246, section 7.4.2.
func readCertificates(s *cryptobyte.String, step *Step, v13 bool) bool {
	var context, list cryptobyte.String
	if v13 && !s.ReadUint8LengthPrefixed(&context) || !s.ReadUint24LengthPrefixed(&list) {
		return false
	}
	certs := []Certificate{}
	for !list.Empty() {
		var der, extensions cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&der) || v13 && !list.ReadUint16LengthPrefixed(&extensions) {
			return false
		}
		c := Certificate{der: bytes.Clone(der)}
		if cert, err := x509.ParseCertificate(der); err != nil {
			c.Problem = err.Error()
		} else {
			c.Subject, c.Issuer, c.NotAfter = pki.SubjectString(cert.Subject), pki.SubjectString(cert.Issuer), cert.NotAfter
			c.Names = slices.Clone(cert.DNSNames)
			for _, ip := range cert.IPAddresses {
				c.Names = append(c.Names, ip.String())
			}
		}
		certs = append(certs, c)
	}
	step.Certificates = &certs
	return true
}

// readKeyExchange reads the start of a key exchange with a named curve (RFC 8422,
// section 5.4): the only ones that crypto/tls offers.
func readKeyExchange(s *cryptobyte.String, version uint16) (group, scheme string, ok bool) {
	var typ uint8
	var id, signature uint16
	var point cryptobyte.String
	if !s.ReadUint8(&typ) || typ != 3 || !s.ReadUint16(&id) || !s.ReadUint8LengthPrefixed(&point) {
		return "", "", false
	}
	if version < tls.VersionTLS12 {
		return groupName(id), "", true
	}
	if !s.ReadUint16(&signature) {
		return "", "", false
	}
	return groupName(id), schemeName(signature), true
}

// readRequest13 reads RFC 8446, section 4.3.2.
func readRequest13(s *cryptobyte.String, r *CertificateRequest) bool {
	var context cryptobyte.String
	return s.ReadUint8LengthPrefixed(&context) && readExtensions(s, func(typ uint16, ext *cryptobyte.String) bool {
		switch typ {
		case extSignatureAlgorithms:
			return readSchemes(ext, r)
		case extAuthorities:
			return readAuthorities(ext, r)
		}
		return true
	})
}

// readRequest12 reads RFC 5246, section 7.4.4.
func readRequest12(s *cryptobyte.String, r *CertificateRequest, version uint16) bool {
	var types cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&types) {
		return false
	}
	r.types = bytes.Clone(types)
	for _, b := range types {
		r.Types = append(r.Types, typeName(b))
	}
	return (version < tls.VersionTLS12 || readSchemes(s, r)) && readAuthorities(s, r)
}

func readSchemes(s *cryptobyte.String, r *CertificateRequest) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var id uint16
		if !list.ReadUint16(&id) {
			return false
		}
		r.schemes = append(r.schemes, id)
		r.SignatureSchemes = append(r.SignatureSchemes, schemeName(id))
	}
	return true
}

func readAuthorities(s *cryptobyte.String, r *CertificateRequest) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var der cryptobyte.String
		if !list.ReadUint16LengthPrefixed(&der) {
			return false
		}
		r.rawCAs = append(r.rawCAs, bytes.Clone(der))
		r.CAs = append(r.CAs, nameOf(der))
	}
	return true
}

// nameOf returns a distinguished name in words, or in hexadecimal if it is
// malformed.
func nameOf(der []byte) string {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 {
		return "malformed name " + hex.EncodeToString(der)
	}
	var name pkix.Name
	name.FillFromRDNSequence(&sequence)
	return cmp.Or(pki.SubjectString(name), "an empty name")
}
