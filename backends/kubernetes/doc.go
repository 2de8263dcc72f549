// Package kubernetes asks the signers of a Kubernetes cluster for certificates: it
// is the reconcile.Remote for certificates.k8s.io/v1.
//
// # What it promises
//
// The name of a CertificateSigningRequest is a digest of what it asks for, so that
// one that was sent is found again and never sent twice. What is in the cluster
// under that name, but asks for something else, or is not the very object that was
// sent, is an error and is left alone. An object that is not there is told from one
// that cannot be read. Every call ends in a bounded time, and an error says what the
// cluster is asked for and, where rights are missing, which.
//
// # What it does not do
//
// It sees no private key. It does not check what a signer answers; reconcile does.
// It approves only what it was told to: its own requests, or one that a person
// names.
//
// It is built on client-go's REST client with the types of this one API, since the
// typed clientset brings those of all of them: see docs/ARCHITECTURE.md.
package kubernetes
