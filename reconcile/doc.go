// Package reconcile makes certificates follow a spec: it observes what is
// there, tells the difference from what is wanted with a reason for each step,
// and applies it.
//
// Data runs one way: Observe gathers a State from the backends, Diff turns spec
// and State into a Plan without I/O, clock or randomness, and Apply carries the
// Plan out. The package declares the interfaces that backends implement.
package reconcile
