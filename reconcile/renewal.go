package reconcile

import (
	"hash/fnv"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// jitterShare is the part of a certificate's lifetime over which the renewals
// of many certificates of the same age are spread.
const jitterShare = 20

// RenewAt returns when a certificate is due for renewal. The lifetime counts
// from notBefore or from issued, whichever is later: an issuer may backdate by
// more than the whole lifetime, and what is measured from a backdated notBefore
// would be due on arrival, for ever (issued may be zero: unknown). Where the
// issuer clamped the lifetime so that it hardly holds renewBefore, the default of
// one third takes its place. The jitter depends on the name alone, so the time
// is the same in every plan.
func RenewAt(c *spec.Certificate, notBefore, notAfter, issued time.Time) time.Time {
	start := notBefore
	switch backdated := notBefore.Add(pki.Backdate); {
	case issued.After(start) && issued.Before(notAfter):
		start = issued
	case issued.IsZero() && notAfter.Sub(backdated) >= c.Duration-time.Second && backdated.Before(notAfter):
		start = backdated // as certsync itself does it
	}
	lifetime := notAfter.Sub(start)
	if lifetime <= 0 {
		return notAfter
	}
	before := lifetime / 3
	switch rb := c.RenewBefore; {
	case rb.Percent > 0:
		before = time.Duration(float64(lifetime) * rb.Percent / 100)
	case rb.Duration <= 0:
	case rb.Duration <= lifetime/10*9, rb.Duration < lifetime && lifetime >= c.Duration:
		before = rb.Duration
	}
	before = min(before, lifetime/20*19) // else a new one would be due on arrival
	spread := min(lifetime/jitterShare, (lifetime-before)/2)
	return notAfter.Add(-before - jitter(c.ID, spread)).Truncate(time.Second)
}

// jitter returns a stable duration in [0, spread) that depends on the name.
func jitter(id spec.ID, spread time.Duration) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(id.String()))
	// FNV's high bits vary little for short names; fold them together.
	sum := h.Sum64()
	sum ^= sum >> 33
	sum *= 0xff51afd7ed558ccd
	sum ^= sum >> 33
	return time.Duration(float64(spread) * (float64(sum>>11) / (1 << 53)))
}
