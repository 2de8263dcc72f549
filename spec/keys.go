package spec

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

var (
	algorithms = []Algorithm{RSA, ECDSA, Ed25519}
	encodings  = []Encoding{PKCS8, PKCS1, SEC1}
	// keySizes are the sizes of each algorithm's keys, the default first.
	keySizes = map[Algorithm][]int{RSA: {2048, 3072, 4096}, ECDSA: {256, 384, 521}}
)

func (d *loader) privateKey(v value, c *draft) {
	privateKeyTable.decode(d, v, c)
}

func (d *loader) algorithm(v value, c *draft) {
	if a, ok := choice(d, v, algorithms); ok {
		c.PrivateKey.Algorithm, c.algorithmLayer = a, c.layer
	}
}

func (d *loader) keySize(v value, c *draft) {
	if n, ok := d.integer(v); ok {
		c.PrivateKey.Size, c.sizeLayer = n, c.layer
	}
}

func (d *loader) encoding(v value, c *draft) {
	if e, ok := choice(d, v, encodings); ok {
		c.PrivateKey.Encoding, c.encodingLayer = e, c.layer
	}
}

func (d *loader) passwordFile(v value, c *draft) {
	if path := d.path(v); path != "" && d.onlyPassword(v, c) {
		if _, ok := d.passwordFiles[path]; !ok {
			d.passwordFiles[path] = v.pos()
		}
		c.PrivateKey.Password = &SecretRef{File: path}
	}
}

func (d *loader) passwordEnv(v value, c *draft) {
	if name, ok := d.variable(v); ok && d.onlyPassword(v, c) {
		c.PrivateKey.Password = &SecretRef{Env: name}
	}
}

// onlyPassword reports a second password in one layer.
func (d *loader) onlyPassword(v value, c *draft) bool {
	if c.passwordLayer == c.layer {
		d.problem(v, "state one of passwordFile and passwordEnv")
		return false
	}
	c.passwordLayer = c.layer
	return true
}

// finishKey fills in what the layers leave open, and checks that the parts fit.
// A part that was stated under an algorithm which a higher layer changed goes
// with it, if it does not fit the new one.
func (d *loader) finishKey(c *draft, whole value) {
	k := &c.PrivateKey
	whole = c.at("privateKey", whole)
	sizes := keySizes[k.Algorithm]
	switch fits := slices.Contains(sizes, k.Size); {
	case fits:
	case c.sizeLayer == unstated || c.sizeLayer < c.algorithmLayer:
		k.Size = 0
		if len(sizes) > 0 {
			k.Size = sizes[0]
		}
	case len(sizes) == 0:
		d.problem(c.at("privateKey.size", whole), "%s keys have one size; leave it out", k.Algorithm)
	default:
		at, hint := c.at("privateKey.size", whole), ""
		if k.Algorithm == ECDSA && slices.Contains(keySizes[RSA], k.Size) {
			hint = "for an RSA key, state algorithm: RSA"
		}
		d.hinted(at, hint, "%s keys have %d, %d or %d bits, not %d", k.Algorithm, sizes[0], sizes[1], sizes[2], k.Size)
	}
	need := map[Encoding]Algorithm{PKCS1: RSA, SEC1: ECDSA}[k.Encoding]
	if need != "" && need != k.Algorithm {
		if c.encodingLayer < c.algorithmLayer {
			k.Encoding = ""
		} else {
			d.problem(c.at("privateKey.encoding", whole), "%s is for %s keys, not %s", k.Encoding, need, k.Algorithm)
		}
	}
	if k.Password != nil && (k.Encoding == PKCS1 || k.Encoding == SEC1) {
		d.hinted(c.at("privateKey.encoding", whole), "use PKCS8, or leave out the password", "only PKCS8 can be encrypted")
	}
}

func usageNames() []string {
	var names []string
	for _, u := range Usages {
		names = append(names, string(u))
	}
	aliases := make([]string, 0, len(usageAliases))
	for u := range usageAliases {
		aliases = append(aliases, string(u))
	}
	slices.Sort(aliases)
	return append(names, aliases...)
}

func (d *loader) usages(v value, c *draft) {
	items, ok := d.items(v)
	if !ok {
		return
	}
	var set uint32
	for _, item := range items {
		s, ok := d.word(item)
		if !ok {
			continue
		}
		u := Usage(s)
		if alias, ok := usageAliases[u]; ok {
			u = alias
		}
		i := slices.Index(Usages, u)
		if i < 0 {
			d.problem(item, "unknown usage %q%s", shorten(s), didYouMean(s, usageNames()))
			continue
		}
		set |= 1 << i
	}
	c.Usages, c.usagesLayer = d.usageSet(set), c.layer
}

// usageSet returns the usages of a set of bits, always the same slice for it.
func (d *loader) usageSet(set uint32) []Usage {
	list, ok := d.usageSets[set]
	if !ok {
		for i, u := range Usages {
			if set&(1<<i) != 0 {
				list = append(list, u)
			}
		}
		d.usageSets[set] = list
	}
	return list
}

func (d *loader) without(list []Usage, drop Usage) []Usage {
	var set uint32
	for i, u := range Usages {
		if u != drop && slices.Contains(list, u) {
			set |= 1 << i
		}
	}
	return d.usageSet(set)
}

// finishUsages fills in the usages of a leaf, and checks them.
func (d *loader) finishUsages(c *draft, whole value) {
	at := c.at("usages", whole)
	c.UsagesStated = c.usagesLayer != unstated
	if c.CA != nil {
		if !slices.Contains(c.Usages, UsageCertSign) {
			d.problem(at, "a CA needs the usage %q", UsageCertSign)
		}
		return
	}
	if !c.UsagesStated {
		c.Usages = bareUsages
	}
	if slices.Contains(c.Usages, UsageCertSign) {
		d.hinted(at, "state a CA under issuers", "only a CA has the usage %q", UsageCertSign)
	}
	// RFC 8813, section 3, forbids it with elliptic curves.
	if c.PrivateKey.Algorithm != RSA && slices.Contains(c.Usages, UsageKeyEncipherment) {
		c.Usages = d.without(c.Usages, UsageKeyEncipherment)
		if c.usagesLayer == ownLayer {
			d.warn(at, "%q has no meaning with %s keys and is left out", UsageKeyEncipherment, c.PrivateKey.Algorithm)
		}
	}
}

func (d *loader) duration(v value, c *draft) {
	if n, ok := d.lifetime(v); ok {
		c.Duration, c.DurationStated = n, true
	}
}

// renewBefore decodes a duration or a percentage.
func (d *loader) renewBefore(v value, c *draft) {
	s, ok := d.word(v)
	if !ok {
		return
	}
	number, percent := strings.CutSuffix(s, "%")
	if !percent {
		n, err := ParseDuration(s)
		switch {
		case err != nil:
			d.hinted(v, "a percentage of the lifetime works too: 33%", "%s", err)
		case n < shortestDuration:
			d.problem(v, "must be at least %s, is %s", FormatDuration(shortestDuration), s)
		default:
			c.RenewBefore = RenewBefore{Duration: n}
		}
		return
	}
	p, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || math.IsNaN(p) || p <= 0 || p >= 100 {
		d.problem(v, "a percentage must be between 0%% and 100%%, is %q", shorten(s))
		return
	}
	c.RenewBefore = RenewBefore{Percent: p}
}

// setWord decodes a string that may not be empty.
func setWord(d *loader, v value, to *string) {
	if s, ok := d.word(v); ok {
		*to = s
	}
}

func (d *loader) pathLen(v value, c *draft) {
	n, ok := d.integer(v)
	if !ok {
		return
	}
	if n < 0 || n > math.MaxInt32 {
		d.problem(v, "must not be negative or huge, is %d", n)
		return
	}
	c.CA.PathLen = &n
}
