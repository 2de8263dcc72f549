package handshake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// Options tell how to shake hands.
type Options struct {
	Address string // HOST:PORT
	// ServerName is sent to the server, as A-labels; empty or an IP address for none.
	ServerName string
	Protocols  []string // for ALPN
	// Certificate is shown to a server that asks for one, whichever it asks for.
	Certificate *tls.Certificate
	// Versions limit the offer; zero for TLS 1.2 and TLS 1.3.
	MinVersion, MaxVersion uint16
	// Weak offers TLS 1.0 to 1.2 with all ciphers that crypto/tls has, also those
	// that are not safe, to find out what a server wants.
	Weak bool
	// StartTLS is the protocol in which TLS is begun; empty for TLS from the start.
	StartTLS string
	// Timeout bounds everything.
	Timeout time.Duration
	// Grace is how long to wait for a sign after the handshake; see Outcome.
	Grace time.Duration
}

// Outcome tells how the handshake ended, as the server sees it. In TLS 1.3 a
// client is done before the server has seen its certificate, so that its own
// opinion does not count: the server's next message does, or, if it waits for
// the client to speak, its answer to the end of the connection.
type Outcome string

// The outcomes.
const (
	Accepted Outcome = "accepted" // the server goes on
	Refused  Outcome = "refused"  // the server ended it
	Failed   Outcome = "failed"   // the client ended it, or could not go on
	Unclear  Outcome = "unclear"  // the server gave no sign
)

// Observation is what a handshake showed.
type Observation struct {
	Remote  string // the IP address and port
	Steps   []Step
	Outcome Outcome
	// Done tells that the client's part went to its end.
	Done bool
	// Alert is the one that ended it, From who sent it; nil for none.
	Alert *Alert
	From  Side
	// Closed tells of a server that ended the connection without an alert.
	Closed bool
	// TimedOut tells of a handshake that did not end in time.
	TimedOut bool
	// Err is why the handshake failed for crypto/tls; nil if Done.
	Err error
	// NotTLS are the first bytes of a server that does not speak TLS.
	NotTLS []byte

	// What was agreed, as far as the handshake went; empty if it did not.
	Version, CipherSuite, Group, ALPN string
	Chain                             []*x509.Certificate // as served
	Request                           *CertificateRequest // nil if the server did not ask
	// Asked tells that the server had the time to ask.
	Asked bool
	// Shown is how many certificates the client showed, if it was asked to.
	Shown  int
	Ticket *Ticket
	// Stapled and SCTs tell what came with the server's certificate.
	Stapled bool
	SCTs    int
}

// Observe connects and shakes hands. An error is one of what comes before TLS: a
// handshake that fails is an Observation.
func Observe(ctx context.Context, o Options) (*Observation, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	start := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", o.Address)
	if err != nil {
		return nil, connectError(err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if o.StartTLS != "" {
		if err := startTLS(conn, o.StartTLS); err != nil {
			return nil, fmt.Errorf("start TLS in %s: %w", o.StartTLS, connectError(err))
		}
	}
	// A server that is far away gets more time for its sign.
	o.Grace = max(o.Grace, 4*time.Since(start))
	return shake(ctx, conn, o), nil
}

func connectError(err error) error {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		why := dns.Err
		if dns.IsNotFound {
			why = "no such host"
		}
		return fmt.Errorf("look up %s: %s", dns.Name, why)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("the server did not answer in time")
	case errors.As(err, &op):
		var call *os.SyscallError
		if errors.As(op.Err, &call) {
			return call.Err
		}
		return op.Err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the server closed the connection")
	}
	return err
}

// shake makes the handshake on a connection whose deadline ends with ctx.
func shake(ctx context.Context, conn net.Conn, o Options) *Observation {
	tap := &tap{Conn: conn, wire: newWire()}
	tap.deadline, _ = ctx.Deadline()
	w := tap.wire
	defer w.secrets.wipe()
	client := tls.Client(tap, config(o, w.secrets))
	// Not with ctx: crypto/tls would close the connection, and that is to tell
	// what the server did.
	err := client.Handshake()
	ob := &Observation{Remote: conn.RemoteAddr().String(), Done: err == nil, Err: err}
	if err == nil {
		ob.state(client.ConnectionState())
		ob.settle(tap, client, o.Grace)
	} else {
		// The reason may have come while the client was still writing.
		tap.readUntil(o.Grace, func() bool {
			w.advance(false)
			return w.notTLS != nil || slices.ContainsFunc(w.steps, isAlert)
		})
	}
	w.advance(true)
	ob.NotTLS = w.notTLS
	ob.read(w.steps)
	ob.judge(ctx, tap)
	return ob
}

func config(o Options, log io.Writer) *tls.Config {
	c := &tls.Config{
		ServerName: o.ServerName,
		NextProtos: o.Protocols,
		MinVersion: max(o.MinVersion, tls.VersionTLS12),
		MaxVersion: o.MaxVersion,
		//nolint:gosec // who inspects a server wants to see it whatever its certificate is; others judge that
		InsecureSkipVerify: true,
		KeyLogWriter:       log,
		// Many servers send tickets only to who may use them, and their tickets are
		// the sign that they accept the handshake.
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
		// Not Certificates, of which crypto/tls shows none that the server did not ask for.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if o.Certificate != nil {
				return o.Certificate, nil
			}
			return &tls.Certificate{}, nil
		},
	}
	if o.Weak {
		c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS12
		for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
			c.CipherSuites = append(c.CipherSuites, s.ID)
		}
	}
	return c
}

func (ob *Observation) state(s tls.ConnectionState) {
	ob.Stapled, ob.SCTs = len(s.OCSPResponse) > 0, len(s.SignedCertificateTimestamps)
}

// settle finds out whether the server goes on: if it has a certificate to judge
// after the client is done, it is given time for a sign. Then the connection is
// ended, to see how the server takes that: programs that judge certificates
// themselves do so after the handshake, when tickets have been sent already.
func (ob *Observation) settle(t *tap, client *tls.Conn, grace time.Duration) {
	t.wire.advance(false)
	asked := slices.ContainsFunc(t.wire.steps, func(s Step) bool { return s.Request != nil })
	if asked && t.wire.version == tls.VersionTLS13 {
		t.readUntil(grace, func() bool {
			t.wire.advance(false)
			return len(signsOf(t.wire.steps)) > 0
		})
	}
	// A server that has sent an alert ends the connection itself.
	if t.ended == nil && !slices.ContainsFunc(signsOf(t.wire.steps), isAlert) {
		t.closing = client.CloseWrite() == nil
	}
	t.readUntil(grace, func() bool { return false })
}

func isAlert(s Step) bool { return s.Alert != nil }

// signsOf returns what the server sent after the client had finished.
func signsOf(steps []Step) []Step {
	i := slices.IndexFunc(steps, func(s Step) bool { return s.From == Client && s.Message == msgFinished })
	if i < 0 {
		return nil
	}
	var signs []Step
	for _, s := range steps[i:] {
		if s.From == Server {
			signs = append(signs, s)
		}
	}
	return signs
}

// read takes what was agreed from the steps.
func (ob *Observation) read(steps []Step) {
	ob.Steps = steps
	for i := range steps {
		s := &steps[i]
		switch {
		case s.ServerHello != nil && s.Message == msgServerHello:
			ob.Version, ob.CipherSuite = s.ServerHello.Version, s.ServerHello.CipherSuite
			ob.Group, ob.ALPN = s.ServerHello.Group, s.ServerHello.ALPN
		case s.ALPN != "":
			ob.ALPN = s.ALPN
		case s.Group != "":
			ob.Group = s.Group
		case s.Request != nil:
			ob.Request, ob.Asked = s.Request, true
		case s.From == Server && (s.Message == msgFinished || s.Message == msgServerHelloDone):
			ob.Asked = true
		case s.Ticket != nil && ob.Ticket == nil:
			ob.Ticket = s.Ticket
		case s.Certificates != nil && s.From == Client:
			ob.Shown = len(*s.Certificates)
		case s.Certificates != nil && ob.Chain == nil:
			for _, c := range *s.Certificates {
				if cert, err := x509.ParseCertificate(c.der); err == nil {
					ob.Chain = append(ob.Chain, cert)
				}
			}
		case s.Alert != nil && (s.Alert.Fatal || !ob.Done && s.Alert.Code == closeNotify) && ob.Alert == nil:
			ob.Alert, ob.From = s.Alert, s.From
		}
	}
}

func (ob *Observation) judge(ctx context.Context, t *tap) {
	signs := signsOf(ob.Steps)
	goesOn := slices.ContainsFunc(signs, func(s Step) bool { return !isAlert(s) })
	switch {
	case ob.Alert != nil && ob.From == Server:
		ob.Outcome = Refused
	case ob.Alert != nil:
		ob.Outcome = Failed
	case !ob.Done && t.ended != nil && len(ob.NotTLS) == 0:
		ob.Outcome = Refused
		// One that was meant as a warning is a word, too.
		if i := slices.IndexFunc(ob.Steps, func(s Step) bool { return isAlert(s) && s.From == Server }); i >= 0 {
			ob.Alert, ob.From = ob.Steps[i].Alert, Server
		} else {
			ob.Closed = true
		}
	case !ob.Done:
		ob.Outcome = Failed
		ob.TimedOut = ctx.Err() != nil
	case !t.closing && !goesOn && (t.ended != nil || len(signs) > 0):
		ob.Outcome, ob.Closed = Refused, true
	case len(signs) == 0 && t.ended == nil && t.wire.version == tls.VersionTLS13:
		ob.Outcome = Unclear
	default:
		ob.Outcome = Accepted
	}
}

// tap is a connection whose bytes are decoded as they pass.
type tap struct {
	net.Conn
	wire     *wire
	deadline time.Time // for everything
	// ended is why nothing more comes from the server.
	ended error
	// closing tells that the client has ended its side.
	closing bool
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.wire.pass(Server, p[:n])
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.ended = err
	}
	return n, err
}

func (t *tap) Write(p []byte) (int, error) {
	n, err := t.Conn.Write(p)
	t.wire.pass(Client, p[:n])
	t.wire.advance(false)
	return n, err
}

// readUntil takes what comes, until that is enough, the server ends the connection,
// or the time is over.
func (t *tap) readUntil(within time.Duration, enough func() bool) {
	limit := time.Now().Add(within)
	if t.deadline.Before(limit) {
		limit = t.deadline
	}
	_ = t.SetReadDeadline(limit)
	var buf [4096]byte
	for t.ended == nil && !enough() && t.wire.received < maxBytes {
		if _, err := t.Read(buf[:]); err != nil {
			return
		}
	}
}
