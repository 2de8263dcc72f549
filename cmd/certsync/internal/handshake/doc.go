// Package handshake makes one TLS handshake with a server and tells what happened
// in it: every message of both sides in its order, what they agreed on, the
// server's certificates, what the server asks of clients, and how it ended.
//
// The handshake is crypto/tls's. What is told is read off the wire: the bytes
// that pass are decoded beside it, and decrypted with the secrets that crypto/tls
// logs. Those stay in memory and end with the connection. What cannot be decoded
// is told to be there, and nothing is guessed.
//
// The server's certificate is not judged here, so that the handshake goes on
// where that of a careful client would end. The package reads no spec and no
// files.
package handshake
