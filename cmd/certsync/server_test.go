package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// tlsServer VAR [-request | -require CA] [-tls1.2] CERT KEY serves TLS until the
// script ends, and sets VAR to its address. With -request it takes any client
// certificate, or none; with -require one of the CA alone.
func tlsServer(ts *testscript.TestScript, neg bool, args []string) {
	const text = "tlsserver VAR [-request | -require CA] [-tls1.2] CERT KEY"
	usage(ts, text, !neg && len(args) >= 3)
	name, args := args[0], args[1:]
	c := &tls.Config{}
	for len(args) > 2 {
		switch args[0] {
		case "-request":
			c.ClientAuth = tls.RequestClientCert
		case "-require":
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
			usage(ts, text, c.ClientCAs.AppendCertsFromPEM([]byte(ts.ReadFile(args[1]))))
			args = args[1:]
		case "-tls1.2":
			c.MaxVersion = tls.VersionTLS12
		default:
			usage(ts, text, false)
		}
		args = args[1:]
	}
	usage(ts, text, len(args) == 2)
	cert, err := tls.LoadX509KeyPair(ts.MkAbs(args[0]), ts.MkAbs(args[1]))
	ts.Check(err)
	c.Certificates = []tls.Certificate{cert}
	listen(ts, name, func(conn net.Conn) {
		s := tls.Server(conn, c)
		defer s.Close()
		_, _ = io.Copy(io.Discard, s)
	})
}

// textServer VAR FILE answers whatever it is sent with the content of a file.
func textServer(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, "textserver VAR FILE", !neg && len(args) == 2)
	answer, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	listen(ts, args[0], func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = conn.Write(answer)
	})
}

// listen serves connections until the script ends, and sets a variable to the
// address.
func listen(ts *testscript.TestScript, name string, serve func(net.Conn)) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(name, l.Addr().String())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				serve(conn)
			}()
		}
	}()
}
