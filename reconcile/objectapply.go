package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/certsync/certsync/spec"
)

// How files and objects of one certificate change together: the files and the
// record first, in one commit, then the objects, each in one call. If no file holds
// the key, it is the record, the Secrets, and then all else: a certificate whose key
// did not arrive anywhere goes nowhere. Every single place holds a key and a
// certificate that match at all times. Whatever happens in
// between, the record names the new certificate: as long as any place holds it, the
// next plan finds the others to be drift and writes them from there. If no place
// does, because the certificate is in objects alone and none was written, the
// record of the old one comes back; after a kill the old one just is due once more.
//
// What is pruned goes the other way: the objects first, and the record, which alone
// knows of them, last.

// maxObjects bounds how many objects are written at once. objectBatch is how many
// certificates with objects are committed together: writing them begins sooner the
// fewer they are, and what their files cost is hidden behind that. maxAhead is how
// many batches are under way: an interrupt waits for them, and their keys are in
// memory.
const (
	maxObjects  = 16
	objectBatch = 64
	maxAhead    = 4
)

// batch returns how many of the tasks make the next batch.
func (a *applier) batch(tasks []*task) int {
	n, objects := 0, 0
	for n < len(tasks) && n < batchSize && objects < objectBatch {
		if st := a.state.Of(tasks[n].item.ID()); st != nil && len(st.Objects) > 0 {
			objects++
		}
		n++
	}
	return n
}

// each calls f for the tasks, within the bound on calls to clusters.
func (a *applier) each(tasks []*task, f func(*task)) {
	var wg sync.WaitGroup
	for _, t := range tasks {
		a.slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-a.slots }()
			f(t)
		})
	}
	wg.Wait()
}

// writable returns the outputs that are written when a certificate is issued: all
// but those that are left to others, unless somebody asked for it.
func (a *applier) writable(t *task) []spec.Output {
	st := a.state.Of(t.cert.ID)
	if len(st.Objects) == 0 {
		return t.cert.Outputs
	}
	return slices.DeleteFunc(slices.Clone(t.cert.Outputs), func(o spec.Output) bool {
		return st.left(o) && !t.item.Has(Requested)
	})
}

// inFiles returns the outputs that are files. Only they are archived: what is in a
// cluster is not copied to this machine.
func inFiles(outputs []spec.Output) []spec.Output {
	if len(objectsOf(outputs)) == 0 {
		return outputs
	}
	return slices.DeleteFunc(slices.Clone(outputs), func(o spec.Output) bool { return o.Object != nil })
}

// part divides what is to be written into files, which stay in the set, and objects.
func (a *applier) part(t *task, st *CertState) {
	if len(st.Objects) == 0 {
		return
	}
	written := t.set.Write
	t.set.Write, t.set.Archive = nil, inFiles(t.set.Archive)
	r := t.set.Record
	digest := r.SpecDigest
	for _, f := range written {
		if f.Output.Object == nil {
			t.set.Write = append(t.set.Write, f)
			continue
		}
		i := slices.IndexFunc(t.objects, func(c ObjectChange) bool { return c.Object == f.Output.Object })
		if i < 0 {
			i = len(t.objects)
			t.objects = append(t.objects, ObjectChange{Object: f.Output.Object, Data: map[string]Secret{}})
		}
		t.objects[i].Data[f.Output.DataKey] = f.Data
	}
	inFile := func(o spec.Output) bool { return o.Object == nil && o.Form.HoldsKey() }
	if t.item.Action.Issues() && !slices.ContainsFunc(a.writable(t), inFile) {
		t.keyFirst = true
		t.late.Write, t.late.Archive = t.set.Write, t.set.Archive
		t.set.Write, t.set.Archive = nil, nil
		slices.SortStableFunc(t.objects, func(a, b ObjectChange) int {
			switch {
			case holdsKey(a) == holdsKey(b):
				return 0
			case holdsKey(a):
				return -1
			}
			return 1
		})
	}
	contests := map[string]Contest{}
	if st.Record != nil {
		maps.Copy(contests, st.Record.Contests)
	}
	for i := range t.objects {
		change := &t.objects[i]
		o := st.object(change.Object)
		if digest == "" {
			digest = st.noteDigest(t.cert, o)
		}
		count := t.count(o, st.Record)
		n := map[string]string{NoteCertificate: t.cert.ID.String(), NoteFingerprint: r.Fingerprint, NoteSpecDigest: digest}
		if t.cert.Issuer != "" {
			n[NoteIssuer] = t.cert.Issuer
		}
		was := st.Record.contest(change.Object)
		if t.item.Has(Requested) {
			was = Contest{}
		}
		change.Labels, change.Annotations, _ = o.wantedMeta(n, was)
		change.Version, change.Force = o.Version, o.Exists && o.mine(st.Record)
		if contests[change.Object.String()] = count; count == (Contest{}) {
			delete(contests, change.Object.String())
		}
	}
	r.Contests = nil
	if len(contests) > 0 {
		r.Contests = contests
	}
}

// answers notes that the set is the answer to the pending request, which goes with
// it: at once, or when all objects are written. Until then it can be fetched again.
func (a *applier) answers(t *task) {
	t.answers = len(t.objects) > 0
	t.set.Answered = !t.answers
}

// count returns how often an object was contested once it is written.
func (t *task) count(o *ObjectState, record *Record) Contest {
	n := record.contest(o.Object)
	n.Before = ""
	if t.item.Has(Requested) {
		return Contest{}
	}
	switch {
	case !t.item.Action.Issues() && !t.item.drifted[o.Object]:
	case o.contestant(t.cert, record) != "" && o.mine(record):
		n.Data++
	default:
		n.Data = 0
	}
	if o.metaContested() {
		n.Meta = min(n.Meta+1, maxRounds)
	}
	return n
}

// metaContested tells whether others have set labels or annotations that the spec
// wants otherwise.
func (o *ObjectState) metaContested() bool {
	differs := func(kind string, want []spec.Label, have map[string]string) bool {
		return slices.ContainsFunc(want, func(l spec.Label) bool {
			return o.Others[kind+"/"+l.Name] != "" && have[l.Name] != l.Value
		})
	}
	own := func(names []string) (list []spec.Label) { // whatever others make of them, it is wrong
		for _, name := range names {
			list = append(list, spec.Label{Name: name})
		}
		return list
	}
	return differs("label", o.Object.Labels, o.Labels) || differs("annotation", o.Object.Annotations, o.Annotations) ||
		differs("annotation", own([]string{NoteCertificate, NoteIssuer, NoteFingerprint, NoteSpecDigest}), o.Annotations) ||
		differs("label", []spec.Label{{Name: spec.ManagedBy, Value: "certsync"}}, o.Labels)
}

// removeObjects removes what is pruned in clusters. What cannot be removed stays in
// the record, and nothing else of the certificate is removed.
func (a *applier) removeObjects(ctx context.Context, batch []*task) {
	var removing []*task
	for _, t := range batch {
		if t.staged != nil && len(t.remove) > 0 {
			removing = append(removing, t)
		}
	}
	a.each(removing, func(t *task) {
		for _, o := range t.remove {
			if err := a.Objects.RemoveObject(ctx, o.Object, o.UID, o.Version); err != nil {
				t.result.Err = alsoErr(err, t.staged.Discard())
				t.staged = nil
				return
			}
		}
	})
}

// writeObjects writes the objects of what was committed, and then the records that
// depend on how that went.
func (a *applier) writeObjects(ctx context.Context, batch []*task) {
	var writing []*task
	for _, t := range batch {
		if t.staged != nil && t.result.Err == nil && len(t.objects) > 0 {
			writing = append(writing, t)
		}
	}
	a.each(writing, func(t *task) { a.writeObjectsOf(ctx, t) })
	var staged []Staged
	var tasks []*task
	for _, t := range writing {
		if t.after == nil {
			continue
		}
		s, err := a.Store.Stage(ctx, *t.after)
		if err != nil {
			t.result.Err = alsoErr(t.result.Err, err)
			continue
		}
		staged, tasks = append(staged, s), append(tasks, t)
	}
	if len(staged) == 0 {
		return
	}
	a.committing.Lock()
	defer a.committing.Unlock()
	for i, err := range a.Store.Commit(ctx, staged) {
		tasks[i].result.Err = alsoErr(tasks[i].result.Err, err)
	}
}

func (a *applier) writeObjectsOf(ctx context.Context, t *task) {
	failed := map[*spec.Object]bool{} // whether it is sure that it was not written
	keyed := !t.keyFirst
	sure := 0
	var errs error
	for _, change := range t.objects {
		if !keyed && !holdsKey(change) {
			failed[change.Object] = true
			sure++
			continue
		}
		err := a.Objects.ApplyObject(ctx, change)
		if err == nil {
			keyed = keyed || holdsKey(change)
			continue
		}
		// What may have been written has to be taken for that: if it is, the
		// record tells that it is the newer one.
		failed[change.Object] = !errors.Is(err, ErrUnanswered)
		if failed[change.Object] {
			sure++
		}
		errs = alsoErr(errs, err)
	}
	t.placed = len(t.set.Write) > 0 || sure < len(t.objects)
	t.result.Err = errs
	after := Set{ID: t.set.ID, Record: t.set.Record, Answered: errs == nil && t.answers}
	if keyed {
		after.Write, after.Archive = t.late.Write, t.late.Archive
	}
	if errs != nil {
		after.Record = a.recordAfter(t, failed, keyed)
	}
	if errs != nil || after.Answered || len(after.Write) > 0 {
		t.after = &after
	}
}

// holdsKey tells whether a change brings the key. A ConfigMap has none.
func holdsKey(c ObjectChange) bool { return c.Object.Kind == spec.KindSecret }

// recordAfter returns the record of a certificate some of whose objects could not be
// written: what is said of those is what was said before. So it is with the files if
// they had to wait for the key, and it is nowhere.
func (a *applier) recordAfter(t *task, failed map[*spec.Object]bool, keyed bool) *Record {
	st := a.state.Of(t.cert.ID)
	before := st.Record
	if !t.placed {
		return before
	}
	r := *t.set.Record
	r.Contests = maps.Clone(r.Contests)
	isFailed := func(out RecordedOutput) bool {
		if out.Object == nil {
			return !keyed
		}
		for o, sure := range failed {
			if sure && keyOf(o) == keyOf(out.Object.object()) {
				return true
			}
		}
		return false
	}
	r.Outputs = slices.DeleteFunc(slices.Clone(r.Outputs), isFailed)
	if before != nil {
		for _, out := range before.Outputs {
			if isFailed(out) {
				r.Outputs = append(r.Outputs, out)
			}
		}
	}
	for o, sure := range failed {
		count := r.contest(o)
		if sure {
			count = before.contest(o)
		}
		count.Before = st.object(o).Annotations[NoteFingerprint]
		delete(r.Contests, o.String())
		if count != (Contest{}) {
			if r.Contests == nil {
				r.Contests = map[string]Contest{}
			}
			r.Contests[o.String()] = count
		}
	}
	return &r
}

// removal is an object that is pruned.
type removal struct {
	Object       *spec.Object
	UID, Version string
}

// orphanObjects sorts the outputs of an orphan by object: an object goes only if all
// that is in it is what certsync wrote.
func (o *observer) orphanObjects(ctx context.Context, f *orphan, targets map[string]bool, inUse map[FileID]bool) {
	byObject := map[objectKey][]RecordedOutput{}
	var order []objectKey
	for _, rec := range f.record.Outputs {
		if rec.Object == nil || targets[rec.Path] {
			continue
		}
		key := keyOf(rec.Object.object())
		if byObject[key] == nil {
			order = append(order, key)
		}
		byObject[key] = append(byObject[key], rec)
	}
	for _, key := range order {
		recs := byObject[key]
		object := recs[0].Object.object()
		found := o.object(ctx, object)
		switch {
		case isGone(found), inUse[FileID{Object: found.UID}]:
		case found.Err != nil:
			f.err = found.Err
			return
		case found.wholly(f.id, recs):
			for _, rec := range recs {
				f.outputs = append(f.outputs, rec.output())
			}
			f.objects = append(f.objects, removal{object, found.UID, found.Version})
		default:
			f.foreign = append(f.foreign, object.String())
		}
	}
}
