// Package kubernetes asks the signers of a Kubernetes cluster for certificates, and
// keeps certificates in its Secrets and ConfigMaps: it is the reconcile.Remote for
// certificates.k8s.io/v1, and the reconcile.ObjectStore.
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
// A Secret or ConfigMap changes in one call, from the very version that was observed.
// Fields of others stay as they are.
//
// # What it does not do
//
// An issuer sees no private key; what the store writes is in no error. It does not check what a signer answers; reconcile does.
// It approves only what it was told to: its own requests, or one that a person
// names.
//
// It is built on client-go's REST client with the types of this one API, since the
// typed clientset brings those of all of them: see docs/ARCHITECTURE.md.
package kubernetes
