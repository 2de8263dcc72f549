package handshake

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
)

// The types of records (RFC 8446, section 5.1).
const (
	recordChangeCipherSpec = 20
	recordAlert            = 21
	recordHandshake        = 22
	recordApplicationData  = 23
)

// Bounds, so that no server can keep the decoder busy. Records beyond are not
// decoded; crypto/tls has bounds of its own for what it takes.
const (
	maxBytes   = 1 << 20
	maxSteps   = 300          // and a few that tell the end
	maxRecord  = 1<<14 + 2048 // RFC 5246, section 6.2.3
	maxMessage = 1 << 18
)

// wire decodes what passes on a connection. It never fails: what it cannot decode
// it tells as far as it can. Bytes of a message that was not allowed, or comes at
// the wrong time, are told as they are; to refuse them is crypto/tls's business.
type wire struct {
	secrets secrets
	steps   []Step
	// notTLS are the first bytes of a server that does not speak TLS.
	notTLS []byte

	halves   map[Side]*half
	queue    []record // complete, and not yet decoded
	received int

	// What the hellos say and the decoding depends on.
	version                    uint16
	suite                      uint16
	clientRandom, serverRandom []byte
}

type record struct {
	from Side
	typ  byte
	data []byte
}

// half is one direction.
type half struct {
	pending  []byte // of a record that is incomplete
	message  []byte // of a handshake message that is incomplete
	garbage  bool   // what comes is no TLS
	lost     bool   // what comes cannot be decrypted
	epoch    epoch
	secret   []byte // TLS 1.3
	opener   *opener
	appBytes int // index of the step with application data, plus one
}

// epoch tells which keys protect what comes.
type epoch int

const (
	plain            epoch = iota
	handshakeKeys          // TLS 1.3
	applicationKeys        // TLS 1.3
	masterSecretKeys       // TLS 1.2
)

func newWire() *wire {
	return &wire{secrets: secrets{}, halves: map[Side]*half{Client: {}, Server: {}}}
}

// pass takes bytes that have passed, in the order in which they did.
func (w *wire) pass(from Side, data []byte) {
	h := w.halves[from]
	data = data[:min(len(data), maxBytes-w.received)]
	w.received += len(data)
	if h.garbage {
		return
	}
	h.pending = append(h.pending, data...)
	for len(h.pending) >= 5 {
		typ, size := h.pending[0], int(binary.BigEndian.Uint16(h.pending[3:]))
		if !isRecord(typ) || h.pending[1] != 3 || size > maxRecord {
			h.garbage = true
			if from == Server && len(w.steps) <= 1 {
				w.notTLS = h.pending
			}
			w.queue = append(w.queue, record{from: from, data: h.pending})
			h.pending = nil
			return
		}
		if len(h.pending) < 5+size {
			return
		}
		w.queue = append(w.queue, record{from, typ, bytes.Clone(h.pending[5 : 5+size])})
		h.pending = h.pending[5+size:]
	}
}

// isRecord tells whether a record begins with b; 24 are heartbeats (RFC 6520).
func isRecord(b byte) bool { return b >= recordChangeCipherSpec && b <= 24 }

// advance decodes what can be: secrets come after the messages that they depend
// on. At last what cannot be decrypted is told as that, too.
func (w *wire) advance(last bool) {
	for len(w.queue) > 0 {
		if !w.decode(w.queue[0], last) {
			return
		}
		w.queue = w.queue[1:]
	}
	if rest := w.halves[Server].pending; last && len(rest) > 0 && len(w.steps) <= 1 && !isRecord(rest[0]) {
		w.notTLS = rest // less than the header of a record
	}
}

// decode decodes a record; false means that a secret is missing yet.
func (w *wire) decode(r record, last bool) bool {
	h := w.halves[r.from]
	typ, data, encrypted := r.typ, r.data, false
	switch {
	case typ == 0:
		w.add(Step{From: r.from, Message: msgNotTLS, Bytes: len(data)})
		return true
	case h.epoch == plain, typ == recordChangeCipherSpec && w.version == tls.VersionTLS13,
		typ == recordAlert && w.version == tls.VersionTLS13: // before keys were there
	default:
		if !w.unlock(r.from, last) {
			return false
		}
		encrypted = true
		var err error
		if h.lost {
			err = errShort
		} else if typ, data, err = h.opener.open(r.typ, r.data); err != nil {
			h.lost = true
		}
		if err != nil {
			w.add(Step{From: r.from, Message: "unread " + recordName(r.typ), Encrypted: true, Bytes: len(r.data)})
			return true
		}
	}
	w.content(r.from, typ, data, encrypted)
	return true
}

func recordName(typ byte) string {
	switch typ {
	case recordHandshake:
		return "handshake message"
	case recordAlert:
		return msgAlert
	}
	return "record"
}

// unlock gets the keys of a side; false means that they may come yet.
func (w *wire) unlock(from Side, last bool) bool {
	h := w.halves[from]
	if h.opener != nil || h.lost {
		return true
	}
	s, ok := suiteOf(w.suite)
	if !ok {
		h.lost = true
		return true
	}
	if h.epoch == masterSecretKeys {
		master := w.secrets["CLIENT_RANDOM"]
		if master == nil {
			h.lost = last
			return last
		}
		keys, salts := s.expandKeys(master, w.clientRandom, w.serverRandom)
		aead, err := s.aead(keys[from])
		h.lost = err != nil
		h.opener = &opener{aead: aead, iv: salts[from]}
		return true
	}
	if h.secret == nil {
		label := map[Side]string{Client: "CLIENT", Server: "SERVER"}[from]
		h.secret = w.secrets[label+map[epoch]string{handshakeKeys: "_HANDSHAKE_TRAFFIC_SECRET", applicationKeys: "_TRAFFIC_SECRET_0"}[h.epoch]]
	}
	if h.secret == nil {
		h.lost = last
		return last
	}
	key, err := s.expandLabel(h.secret, "key", s.key)
	iv, err2 := s.expandLabel(h.secret, "iv", 12)
	if err != nil || err2 != nil {
		h.lost = true
		return true
	}
	aead, err := s.aead(key)
	h.lost = err != nil
	h.opener = &opener{aead: aead, iv: iv, v13: true}
	return true
}

// enter changes the keys of a side.
func (h *half) enter(e epoch) { h.epoch, h.secret, h.opener = e, nil, nil }

// update changes to the next application keys (RFC 8446, section 7.2).
func (w *wire) update(h *half) {
	s, ok := suiteOf(w.suite)
	if !ok || h.secret == nil {
		h.lost = true
		return
	}
	next, err := s.expandLabel(h.secret, "traffic upd", s.hash.Size())
	h.lost = err != nil
	h.secret, h.opener = next, nil
}

func (w *wire) content(from Side, typ byte, data []byte, encrypted bool) {
	h := w.halves[from]
	switch typ {
	case recordHandshake:
		h.message = append(h.message, data...)
		for len(h.message) >= 4 {
			size := int(binary.BigEndian.Uint32(h.message) & 0xffffff)
			if size > maxMessage {
				w.add(Step{From: from, Message: "oversized " + messageName(h.message[0]), Encrypted: encrypted, Bytes: size})
				h.message, h.garbage = nil, true
				return
			}
			if len(h.message) < 4+size {
				return
			}
			kind, body := h.message[0], h.message[4:4+size]
			h.message = h.message[4+size:]
			w.handshake(from, kind, body, encrypted)
		}
	case recordAlert:
		if len(data) == 2 {
			w.add(Step{From: from, Message: msgAlert, Encrypted: encrypted, Alert: newAlert(data[0], data[1])})
		} else {
			w.add(Step{From: from, Message: "malformed alert", Encrypted: encrypted, Bytes: len(data)})
		}
	case recordChangeCipherSpec:
		w.add(Step{From: from, Message: msgChangeCipherSpec})
		if h.epoch == plain && w.version != 0 && w.version < tls.VersionTLS13 {
			h.enter(masterSecretKeys)
		}
	case recordApplicationData:
		if h.appBytes > 0 {
			w.steps[h.appBytes-1].Bytes += len(data)
			return
		}
		if w.add(Step{From: from, Message: msgApplicationData, Encrypted: encrypted, Bytes: len(data)}) {
			h.appBytes = len(w.steps)
		}
	default:
		w.add(Step{From: from, Message: "unknown record", Encrypted: encrypted, Bytes: len(data)})
	}
}

// add adds a step, and tells whether it is there. Beyond the bound are only that
// there was more, and the alerts of both sides, which tell how it ended.
func (w *wire) add(s Step) bool {
	n := len(w.steps)
	ends := s.Alert != nil && s.Alert.Fatal
	switch {
	case n < maxSteps, ends && n < maxSteps+3:
		w.steps = append(w.steps, s)
		return true
	case n == maxSteps:
		w.steps = append(w.steps, Step{From: s.From, Message: msgMore})
	}
	return false
}
