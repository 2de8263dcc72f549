package spec

import "iter"

// Issuer returns the issuer of the name, or nil.
func (s *Spec) Issuer(name string) *Issuer {
	for _, is := range s.Issuers {
		if is.Name == name {
			return is
		}
	}
	return nil
}

// Find returns the certificate of the ID, or nil.
func (s *Spec) Find(id ID) *Certificate {
	if s.index != nil {
		return s.index[id]
	}
	for c := range s.All() { // a Spec that Load did not make
		if c.ID == id {
			return c
		}
	}
	return nil
}

// All yields every certificate in an order in which they can be issued: those
// of CAs, each after the one that signs it, then the leaves as declared.
func (s *Spec) All() iter.Seq[*Certificate] {
	return func(yield func(*Certificate) bool) {
		for _, is := range s.Issuers {
			if is.CA != nil && !yield(is.CA) {
				return
			}
		}
		for _, c := range s.Certificates {
			if !yield(c) {
				return
			}
		}
	}
}

// HoldsKey tells whether an output holds the private key.
func (c *Certificate) HoldsKey() bool {
	for _, o := range c.Outputs {
		if o.Form.HoldsKey() {
			return true
		}
	}
	return false
}

// Output returns the first output of a form, or nil.
func (c *Certificate) Output(form Form) *Output {
	for i := range c.Outputs {
		if c.Outputs[i].Form == form {
			return &c.Outputs[i]
		}
	}
	return nil
}
