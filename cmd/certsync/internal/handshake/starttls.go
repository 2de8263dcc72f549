package handshake

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// StartTLSProtocols are the protocols in which TLS can be begun.
var StartTLSProtocols = []string{"imap", "ldap", "pop3", "postgres", "smtp"}

// startTLS makes a server begin TLS. What it reads is bounded, and ends where TLS
// begins.
func startTLS(conn net.Conn, protocol string) error {
	// No more may be read than belongs to the answer: byte by byte then.
	limit := &io.LimitedReader{R: oneByOne{conn}, N: 64 << 10}
	err := begin(conn, bufio.NewReaderSize(limit, 16), protocol)
	if err != nil && limit.N == 0 {
		return errors.New("the server's answer does not end")
	}
	return err
}

func begin(conn net.Conn, in *bufio.Reader, protocol string) error {
	switch protocol {
	case "postgres":
		return startPostgres(conn, in)
	case "smtp":
		return startSMTP(conn, in)
	case "imap":
		return startIMAP(conn, in)
	case "pop3":
		return startPOP3(conn, in)
	case "ldap":
		return startLDAP(conn, in)
	}
	return fmt.Errorf("protocol %q is not known", protocol)
}

// oneByOne reads single bytes, so that a buffered reader never reads ahead.
type oneByOne struct{ io.Reader }

func (r oneByOne) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }

// startPostgres sends an SSLRequest (PostgreSQL documentation, section 54.2.12).
func startPostgres(conn net.Conn, in io.Reader) error {
	if _, err := conn.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, 80877103)); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(in, answer[:]); err != nil {
		return err
	}
	switch answer[0] {
	case 'S':
		return nil
	case 'N':
		return errors.New("the server has TLS switched off")
	}
	return fmt.Errorf("unexpected answer %q", answer[:])
}

// startSMTP is RFC 3207.
func startSMTP(conn net.Conn, in *bufio.Reader) error {
	if err := smtpAnswer(in, "220"); err != nil {
		return err
	}
	for _, c := range []struct{ command, code string }{{"EHLO certsync.invalid", "250"}, {"STARTTLS", "220"}} {
		if _, err := io.WriteString(conn, c.command+"\r\n"); err != nil {
			return err
		}
		if err := smtpAnswer(in, c.code); err != nil {
			return err
		}
	}
	return nil
}

// smtpAnswer reads an answer, whose last line has no hyphen after the code.
func smtpAnswer(in *bufio.Reader, code string) error {
	for {
		line, err := readLine(in)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, code) {
			return fmt.Errorf("unexpected answer %q", line)
		}
		if len(line) == 3 || line[3] != '-' {
			return nil
		}
	}
}

// startIMAP is RFC 3501, section 6.2.1.
func startIMAP(conn net.Conn, in *bufio.Reader) error {
	if line, err := readLine(in); err != nil || !strings.HasPrefix(line, "* ") {
		return unexpected(err, line)
	}
	if _, err := io.WriteString(conn, "a STARTTLS\r\n"); err != nil {
		return err
	}
	for {
		line, err := readLine(in)
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "* "):
		case strings.HasPrefix(line, "a OK"):
			return nil
		default:
			return fmt.Errorf("unexpected answer %q", line)
		}
	}
}

// startPOP3 is RFC 2595, section 4.
func startPOP3(conn net.Conn, in *bufio.Reader) error {
	if line, err := readLine(in); err != nil || !strings.HasPrefix(line, "+OK") {
		return unexpected(err, line)
	}
	if _, err := io.WriteString(conn, "STLS\r\n"); err != nil {
		return err
	}
	if line, err := readLine(in); err != nil || !strings.HasPrefix(line, "+OK") {
		return unexpected(err, line)
	}
	return nil
}

// startLDAP sends an extended request (RFC 4511, section 4.14). Of the answer the
// result code counts, which stands first in it.
func startLDAP(conn net.Conn, in io.Reader) error {
	const oid = "1.3.6.1.4.1.1466.20037"
	request := append([]byte{0x30, 7 + byte(len(oid)), 2, 1, 1, 0x77, 2 + byte(len(oid)), 0x80, byte(len(oid))}, oid...)
	if _, err := conn.Write(request); err != nil {
		return err
	}
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return err
	}
	size := int(head[1])
	if size > 0x80 && size <= 0x84 {
		length := make([]byte, size-0x80)
		if _, err := io.ReadFull(in, length); err != nil {
			return err
		}
		size = 0
		for _, b := range length {
			size = size<<8 | int(b)
		}
	}
	if head[0] != 0x30 || size > 16<<10 {
		return fmt.Errorf("unexpected answer %q", head[:])
	}
	answer := make([]byte, size)
	if _, err := io.ReadFull(in, answer); err != nil {
		return err
	}
	// messageID 1, [APPLICATION 24], maybe with a long length, ENUMERATED.
	for i := 3; i+2 < len(answer) && i < 12; i++ {
		if answer[i] == 10 && answer[i+1] == 1 {
			if answer[i+2] == 0 {
				return nil
			}
			return fmt.Errorf("the server refused: result code %d", answer[i+2])
		}
	}
	return errors.New("unexpected answer")
}

func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		b, err := in.ReadByte()
		if err != nil {
			return "", err
		}
		if b == '\n' {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		line = append(line, b)
	}
}

// unexpected is what an answer was that is not the one which was hoped for.
func unexpected(err error, line string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("unexpected answer %q", line)
}
