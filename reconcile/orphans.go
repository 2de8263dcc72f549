package reconcile

import (
	"context"
	"fmt"

	"github.com/certsync/certsync/spec"
)

// orphans finds what the records tell that certsync wrote, and the spec has no
// more. A path that any certificate of the spec has is none.
func (o *observer) orphans(ctx context.Context, sp *spec.Spec, s *State, ids []spec.ID) []orphan {
	var found []orphan
	for _, id := range ids {
		c := sp.Find(id)
		var record *Record
		if c != nil {
			record = s.certs[id].Record
			if record == nil || !moved(record, c) {
				continue
			}
		} else {
			r, err := o.Store.Record(ctx, id)
			if err != nil {
				found = append(found, orphan{id: id, gone: true, err: fmt.Errorf("read record: %w", err)})
				continue
			}
			if r == nil {
				continue
			}
			record = r
		}
		found = append(found, orphan{id: id, record: record, gone: c == nil})
	}
	found = o.orphanedRequests(ctx, sp, found)
	if len(found) == 0 {
		return nil
	}
	targets := make(map[string]bool)
	inUse := make(map[FileID]bool)
	for c := range sp.All() {
		st := s.certs[c.ID]
		for i, out := range c.Outputs {
			targets[out.Path] = true
			inUse[st.Outputs[i].file] = true
		}
		for _, object := range st.Objects { // whatever it holds
			inUse[FileID{Object: object.UID}] = true
		}
	}
	delete(inUse, FileID{})
	for i := range found {
		if found[i].err == nil {
			o.orphan(ctx, &found[i], targets, inUse)
		}
	}
	return found
}

// moved tells whether the record names an output that the certificate has not.
func moved(r *Record, c *spec.Certificate) bool {
	for _, rec := range r.Outputs {
		if !hasPath(c, rec.Path) {
			return true
		}
	}
	return false
}

func hasPath(c *spec.Certificate, path string) bool {
	for i := range c.Outputs {
		if c.Outputs[i].Path == path {
			return true
		}
	}
	return false
}

// orphan observes the outputs of one orphan. Only what still is what certsync
// wrote may be pruned, and only if it is not the output of any certificate, be it
// by another path.
func (o *observer) orphan(ctx context.Context, f *orphan, targets map[string]bool, inUse map[FileID]bool) {
	f.foreignSpec = o.foreign(ctx, f.record)
	for _, rec := range f.record.Outputs {
		if targets[rec.Path] || rec.Object != nil {
			continue
		}
		out := rec.output()
		seen, err := o.Store.Read(ctx, out)
		if err != nil {
			f.err = err
			return
		}
		switch {
		case !seen.Exists, inUse[seen.File]:
		case rec.Digest == digestOf(seen.Data):
			f.outputs = append(f.outputs, out)
		default:
			f.foreign = append(f.foreign, rec.Path)
		}
	}
	o.orphanObjects(ctx, f, targets, inUse)
}

// prune plans, or reports, what the spec has no more.
func (d *differ) prune() []Item {
	var items []Item
	for _, o := range d.state.orphans {
		if !selects(d.options.Names, o.id) {
			continue
		}
		it := Item{Kind: o.id.Kind, Name: o.id.Name, Action: ActionNone}
		if o.err != nil {
			it.fail(o.err, "")
			items = append(items, it)
			continue
		}
		if o.foreignSpec != nil {
			if len(o.outputs) > 0 {
				it.Warnings = append(it.Warnings, fmt.Sprintf("%v: what it wrote is left alone", o.foreignSpec))
				items = append(items, it)
			}
			continue
		}
		for _, f := range o.foreign {
			it.Warnings = append(it.Warnings, fmt.Sprintf("%s was changed since certsync wrote it: left alone", f))
		}
		for _, out := range o.outputs {
			it.Outputs = append(it.Outputs, out.Path)
		}
		if len(it.Outputs) == 0 && !o.gone {
			if len(it.Warnings) > 0 {
				items = append(items, it)
			}
			continue
		}
		message := "not in the spec any more"
		if !o.gone {
			message = "no output of the certificate any more"
		}
		it.Action = ActionPrune
		it.Reasons = []Reason{{Code: Orphaned, Message: message, action: ActionPrune}}
		if o.pending != nil {
			it.Reasons[0].Message += fmt.Sprintf(", and the request %s is not answered", o.pending.Request)
		}
		if len(it.Outputs) == 0 && !d.options.Prune {
			continue // nothing but a record or a request is left: not worth a report
		}
		items = append(items, it)
	}
	return items
}

// prune builds the set that removes what the spec has no more. The record is
// read anew: the same apply may have written it.
func (a *applier) prune(ctx context.Context, t *task) error {
	set := &t.set
	set.ID = t.item.ID()
	record, err := a.Store.Record(ctx, set.ID)
	if err != nil {
		return err
	}
	for _, o := range a.state.orphans {
		if o.id != set.ID {
			continue
		}
		set.Remove, t.remove = inFiles(o.outputs), o.objects
		set.Archive = set.Remove
		if o.pending != nil {
			a.withdrawPending(ctx, o.pending)
			set.Answered = true
		}
		if c := a.spec.Find(o.id); c != nil && record != nil {
			kept := *record
			kept.Outputs = nil
			for _, out := range record.Outputs {
				if hasPath(c, out.Path) {
					kept.Outputs = append(kept.Outputs, out)
				}
			}
			set.Record = &kept
		}
	}
	return nil
}
