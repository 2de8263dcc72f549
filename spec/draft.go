package spec

import (
	"slices"
	"time"
)

// draft is a certificate while its layers are put on top of each other:
// defaults, then the profile, then what the certificate itself states.
type draft struct {
	Certificate
	place  place
	layer  layer
	stated []stated
	// dnsAt and the like are the places of the names, for the checks against
	// name constraints.
	dnsAt, ipAt, uriAt, emailAt []value

	files     [len(forms)]target
	directory target
	keystores [len(keystoreForms)]keystoreTarget
	// kubeconfig is replaced, not written into: layers share it.
	kubeconfig *kubeconfigTarget
	// secrets and configMaps are replaced, not written into: layers share them.
	secrets, configMaps []*objectTarget

	algorithmLayer, sizeLayer, encodingLayer, passwordLayer, usagesLayer layer
}

// layer tells where a field of a draft was stated; higher ones win.
type layer uint8

const (
	unstated layer = iota
	defaultsLayer
	profileLayer
	ownLayer
)

type stated struct {
	name string
	val  value
}

func (c *draft) state(name string, e entry) {
	for i := range c.stated {
		if c.stated[i].name == name {
			c.stated[i].val = e.value
			return
		}
	}
	c.stated = append(c.stated, stated{name, e.value})
}

// at returns the value that states a field, or whole if none does.
func (c *draft) at(name string, whole value) value {
	for i := range c.stated {
		if c.stated[i].name == name {
			return c.stated[i].val
		}
	}
	return whole
}

// states tells whether a layer states a field, were it wrongly: what follows
// from its absence is then not worth a second message.
func (c *draft) states(names ...string) bool {
	return slices.ContainsFunc(c.stated, func(s stated) bool {
		return slices.Contains(names, s.name) && (s.val.node.Value != "" || len(s.val.node.Content) > 0)
	})
}

// clone returns a copy that can be drafted further. Lists are shared: layers
// replace them and never write into them.
func (c *draft) clone() *draft {
	n := *c
	n.stated = append(make([]stated, 0, len(c.stated)+10), c.stated...)
	return &n
}

// Lifetimes that no layer states.
const (
	defaultDuration   = 90 * Day
	defaultCADuration = 3650 * Day
)

// newDraft returns a leaf with the built-in defaults.
func newDraft() *draft {
	c := &draft{place: inCertificate}
	c.Duration = defaultDuration
	c.PrivateKey = PrivateKey{Algorithm: ECDSA, RotationPolicy: RotateAlways}
	return c
}

func newCADraft() *draft {
	c := &draft{place: inCA}
	c.Duration = defaultCADuration
	c.PrivateKey = PrivateKey{Algorithm: ECDSA, RotationPolicy: RotateNever}
	c.Usages = []Usage{UsageCertSign, UsageCRLSign}
	c.CA = &CA{}
	return c
}

// builtinProfiles are usable without being stated. A spec may state profiles of
// the same names, which then take their place. A key that only proves who a client is
// enciphers nothing (RFC 5280, section 4.2.1.12).
var builtinProfiles = map[string][]Usage{
	"server": {UsageDigitalSignature, UsageKeyEncipherment, UsageServerAuth},
	"client": {UsageDigitalSignature, UsageClientAuth},
	"peer":   {UsageDigitalSignature, UsageKeyEncipherment, UsageServerAuth, UsageClientAuth},
}

// bareUsages are those of a leaf with neither profile nor usages.
var bareUsages = []Usage{UsageDigitalSignature, UsageKeyEncipherment}

// shortestDuration bounds the durations that make sense: the times in a
// certificate are whole seconds.
const shortestDuration = time.Second
