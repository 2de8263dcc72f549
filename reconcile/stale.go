package reconcile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/certsync/certsync/spec"
)

// ErrStale is wrapped by the error of Recheck for a plan that does not describe
// what is there any more.
var ErrStale = errors.New("the plan is stale")

// Recheck returns a saved plan ready to be applied, if spec and state are still
// those that it was made from. Since Diff is pure, the plan is made again as of
// the time when it was saved: the result has to be the very same.
func Recheck(saved *Plan, sp *spec.Spec, s *State) (*Plan, error) {
	if saved.FormatVersion != PlanVersion {
		return nil, fmt.Errorf("the plan has format version %d, this program reads %d", saved.FormatVersion, PlanVersion)
	}
	if saved.SpecDigest == "" || saved.StateDigest == "" {
		return nil, errors.New("the plan was not made with plan --out")
	}
	if saved.SpecDigest != sp.Digest() {
		return nil, fmt.Errorf("%w: the spec has changed since", ErrStale)
	}
	if saved.StateDigest != s.digest(sp) {
		return nil, fmt.Errorf("%w: what is there has changed since", ErrStale)
	}
	fresh, err := Diff(sp, s, saved.Options, saved.Created)
	if err != nil {
		return nil, err
	}
	fresh.Seal(sp, s)
	if !samePlan(saved, fresh) {
		return nil, fmt.Errorf("%w: it does not follow from the spec and what is there", ErrStale)
	}
	return fresh, nil
}

func samePlan(a, b *Plan) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
