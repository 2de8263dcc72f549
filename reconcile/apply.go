package reconcile

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// batchSize is how many sets are committed together: enough to share the cost
// of making them durable, few enough that an interrupt is soon obeyed.
const batchSize = 512

// ErrNotStarted is wrapped by the errors of what an interrupt left undone.
var ErrNotStarted = errors.New("not started")

// Result tells what became of one item of a plan.
type Result struct {
	Kind   spec.Kind
	Name   string
	Action Action
	// Err tells why the item was not carried out; what was there before is
	// still there then.
	Err error
	// Fingerprint and NotAfter are those of the new certificate, if one was issued.
	Fingerprint string
	NotAfter    time.Time
	// Request is the name of the request that a remote issuer was sent, Approve the
	// command with which a person approves it, if that is what it waits for.
	Request, Approve string
	// Altered is what the issuer gave against the request.
	Altered  []pki.Difference
	Warnings []string
}

// ID returns the identity of the certificate.
func (r *Result) ID() spec.ID { return spec.ID{Kind: r.Kind, Name: r.Name} }

// ApplyOptions are the circumstances of an Apply.
type ApplyOptions struct {
	// Now tells the time; it is required.
	Now func() time.Time
	// Progress, if set, is called after each item, from one goroutine at a time.
	Progress func(Result)
	// Wait tells to wait for the answers of remote issuers: for WaitFor, or as long
	// as each issuer says. What is not answered by then has an error that wraps
	// ErrPending, and is fetched by a later Apply.
	Wait    bool
	WaitFor time.Duration
}

// Apply carries a plan out, issuers before what they sign. One item's failure
// does not stop the others, only those that depend on it. When ctx ends, the
// commit under way is finished and the rest is left undone. The results are in
// the order of the plan's items, without those that need nothing.
//
// The plan must have been made from the same spec and state, and whoever calls
// must hold the lock on the store.
func Apply(ctx context.Context, sp *spec.Spec, s *State, p *Plan, b Backends, o ApplyOptions) []Result {
	a := &applier{Backends: b, spec: sp, state: s, options: o,
		authorities: make(map[string]*authority, len(sp.Issuers)), opener: newOpener(b), remotes: remoteIssuers(sp),
		slots: make(chan struct{}, maxObjects)}
	stages := a.stages(p)
	if err := a.announce(ctx); err != nil {
		for _, t := range a.tasks {
			t.result.Err = err
		}
	} else {
		for _, stage := range stages {
			a.stage(ctx, stage)
			for _, t := range stage {
				pending := errors.Is(t.result.Err, ErrPending)
				a.waiting = a.waiting || pending
				a.failed = a.failed || t.result.Err != nil && !pending || t.item.Left() != nil
			}
		}
		a.forget(ctx, p)
	}
	results := make([]Result, 0, len(a.tasks))
	for _, t := range a.tasks {
		results = append(results, t.result)
	}
	return results
}

type applier struct {
	Backends
	spec        *spec.Spec
	state       *State
	options     ApplyOptions
	tasks       []*task
	authorities map[string]*authority
	opener      *opener
	remotes     map[string]*spec.Issuer // by name
	committing  sync.Mutex              // held while the store commits
	telling     sync.Mutex              // held while tasks end
	slots       chan struct{}           // for calls to clusters
	// failed tells that a stage was not done in full. The last one, which
	// prunes, is for those only whose certificates are all where they should be.
	failed bool
	// waiting tells that something is not answered yet.
	waiting bool
}

// task is one item on its way.
type task struct {
	item   *Item
	cert   *spec.Certificate // nil for a prune
	set    Set
	issued *x509.Certificate
	staged Staged
	result Result
	// objects are what the set has in clusters, remove what a prune has there; after
	// is a set for when that is done, and placed tells that the certificate has
	// arrived somewhere.
	objects []ObjectChange
	remove  []removal
	after   *Set
	placed  bool
	answers bool // the set is the answer to a pending request
	// keyFirst tells that only objects hold the key, which they get before all else;
	// late has the files that are written then.
	keyFirst bool
	late     Set
	// answered is the request of a remote issuer that the set answers.
	answered *Sent
}

// stages sorts the items that need something: the CAs by their depth, then the
// leaves, which need nothing from each other, then what is pruned.
func (a *applier) stages(p *Plan) [][]*task {
	depth := make(map[string]int, len(a.spec.Issuers))
	deepest := 0
	for _, i := range a.spec.Issuers {
		if i.CA != nil && i.CA.Issuer != "" {
			depth[i.Name] = depth[i.CA.Issuer] + 1
			deepest = max(deepest, depth[i.Name])
		}
	}
	stages := make([][]*task, deepest+3)
	for i := range p.Items {
		it := &p.Items[i]
		if it.Error == "" && it.Action == ActionNone {
			continue
		}
		t := &task{item: it, cert: a.spec.Find(it.ID()),
			result: Result{Kind: it.Kind, Name: it.Name, Action: it.Action}}
		a.tasks = append(a.tasks, t)
		at := deepest + 1
		switch {
		case it.Action == ActionPrune:
			at = deepest + 2
		case it.Kind == spec.KindIssuer:
			at = depth[it.Name]
		}
		stages[at] = append(stages[at], t)
	}
	return stages
}

// announce tells the store of all outputs that will be written or removed, if it
// wants to know.
func (a *applier) announce(ctx context.Context) error {
	store, ok := a.Store.(Preparer)
	if !ok || ctx.Err() != nil {
		return nil //nolint:nilerr // each item tells of the interrupt itself
	}
	var outputs []spec.Output
	for _, t := range a.tasks {
		switch {
		case t.item.Error != "":
		case t.cert != nil && t.item.Action != ActionPrune:
			outputs = append(outputs, inFiles(t.cert.Outputs)...)
		default:
			for _, o := range a.state.orphans {
				if o.id == t.item.ID() {
					outputs = append(outputs, inFiles(o.outputs)...)
				}
			}
		}
	}
	if len(outputs) == 0 {
		return nil
	}
	return store.Prepare(ctx, outputs)
}

// stage carries out tasks that do not depend on each other: prepared in
// parallel, committed in batches. While one batch is being made durable, which is
// waiting for the disk, or written to a cluster, the next one is prepared.
func (a *applier) stage(ctx context.Context, tasks []*task) {
	tasks, remote := a.split(tasks)
	defer a.remoteStage(ctx, remote)
	committed := make(chan struct{})
	close(committed)
	var writing sync.WaitGroup
	ahead := make(chan struct{}, maxAhead)
	for len(tasks) > 0 {
		ahead <- struct{}{}
		n := a.batch(tasks)
		batch := tasks[:n]
		tasks = tasks[n:]
		if batch[0].item.Kind == spec.KindIssuer {
			<-committed // a commit settles what issuers are
		}
		a.openAuthorities(ctx, batch)
		parallel(len(batch), func(i int) { a.prepare(ctx, batch[i]) })
		<-committed
		done := make(chan struct{})
		committed = done
		go func() {
			defer close(done)
			a.commitFiles(ctx, batch)
			write := func() {
				a.commitObjects(ctx, batch)
				<-ahead
			}
			if batch[0].item.Kind == spec.KindIssuer {
				write()
				return
			}
			writing.Go(write)
		}()
	}
	<-committed
	writing.Wait()
}

// prepare brings one task to where it only has to be committed.
func (a *applier) prepare(ctx context.Context, t *task) {
	if err := ctx.Err(); err != nil {
		t.result.Err = fmt.Errorf("%w: %w", ErrNotStarted, context.Cause(ctx))
		return
	}
	var err error
	switch {
	case t.item.Error != "":
		a.noteRefusal(ctx, t)
		err = t.item.err
		if err == nil {
			err = errors.New(t.item.Error)
		}
	case t.item.Action == ActionPrune && a.failed:
		err = errors.New("nothing is removed, because not everything before succeeded")
	case t.item.Action == ActionPrune && a.waiting:
		err = fmt.Errorf("%w: nothing is removed before all are answered", ErrPending)
	case t.item.Action == ActionPrune:
		err = a.prune(ctx, t)
	case t.item.Action == ActionRepair:
		err = a.repair(ctx, t)
	default:
		err = a.issue(ctx, t)
	}
	if err == nil {
		t.staged, err = a.Store.Stage(ctx, t.set)
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ErrNotStarted, context.Cause(ctx)) // given up half-way: nothing is left of it
	}
	t.result.Err = err
}

// commit publishes what was prepared, and notes what became of each task.
func (a *applier) commit(ctx context.Context, batch []*task) {
	a.commitFiles(ctx, batch)
	a.commitObjects(ctx, batch)
}

// commitFiles publishes the files and records of what was prepared.
func (a *applier) commitFiles(ctx context.Context, batch []*task) {
	ctx = context.WithoutCancel(ctx) // a commit is never left half-way for an interrupt
	a.removeObjects(ctx, batch)
	var staged []Staged
	var tasks []*task
	for _, t := range batch {
		if t.staged != nil {
			staged, tasks = append(staged, t.staged), append(tasks, t)
		}
	}
	if len(staged) == 0 {
		return
	}
	a.committing.Lock()
	defer a.committing.Unlock()
	for i, err := range a.Store.Commit(ctx, staged) {
		tasks[i].result.Err = err
	}
}

// commitObjects publishes what of a batch is in clusters, and ends its tasks.
func (a *applier) commitObjects(ctx context.Context, batch []*task) {
	a.writeObjects(context.WithoutCancel(ctx), batch)
	a.telling.Lock()
	defer a.telling.Unlock()
	for _, t := range batch {
		if t.result.Err != nil && !t.placed {
			t.issued = nil
		}
		t.set, t.late, t.staged, t.objects, t.after = Set{}, Set{}, nil, nil, nil // may hold keys; is not needed any more
		if t.item.Kind == spec.KindIssuer && t.item.Action.Issues() {
			a.settle(t)
		}
		if a.options.Progress != nil {
			a.options.Progress(t.result)
		}
	}
}

// issue obtains a certificate and builds the set that holds it.
func (a *applier) issue(ctx context.Context, t *task) error {
	c, st := t.cert, a.state.Of(t.cert.ID)
	if err := a.checkPasswords(c); err != nil {
		return err
	}
	key, err := a.key(ctx, t.item, c, st)
	if err != nil {
		return err
	}
	var req pki.Request
	if previous := st.cert; previous != nil && key.Matches(previous) {
		req, err = pki.NewSuccessor(c, key, previous, a.options.Now())
	} else {
		req, err = pki.NewRequest(c, key, a.options.Now())
	}
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	chain, up, err := a.sign(ctx, c, req, key)
	if err != nil {
		return err
	}
	var issuer *x509.Certificate
	m := pki.Material{Key: key, Chain: chain}
	if up != nil {
		issuer, m.Anchor = up.cert, up.anchor
	} else {
		issuer, m.Anchor = chain[0], chain[0]
	}
	if err := pki.CheckAnswer(req, chain, issuer); err != nil {
		return fmt.Errorf("issuer %q answered with a certificate that is not acceptable: %w", c.Issuer, err)
	}
	return a.fill(ctx, t, st, req, m, issuer, up)
}

// fill builds the set for a certificate that was issued. signer is the certificate
// whose key signed it, as far as it is known, up what the spec has above it.
func (a *applier) fill(ctx context.Context, t *task, st *CertState, req pki.Request, m pki.Material, signer *x509.Certificate, up *authority) (err error) {
	c := t.cert
	t.issued = m.Chain[0]
	t.result.Fingerprint = pki.CertificateFingerprint(t.issued).String()
	t.result.NotAfter = t.issued.NotAfter
	t.compare(req, up)

	outputs := a.writable(t)
	t.set = Set{ID: c.ID, Archive: outputs}
	if st.Leaf == nil && st.Key == nil && !anyExists(st) {
		t.set.Archive = nil
	}
	if t.set.Write, err = a.files(ctx, c, m, outputs); err != nil {
		return err
	}
	t.set.Record = a.record(c, st, t.set.Write, true)
	t.set.Write = changed(c, st, t.set.Write)
	t.set.Record.Source = c.Source
	t.set.Record.Issuer, t.set.Record.SpecDigest = c.Issuer, c.Digest()
	t.set.Record.Fingerprint, t.set.Record.Key = t.result.Fingerprint, m.Key.Fingerprint().String()
	t.set.Record.IssuerKey = ""
	if signer != nil {
		t.set.Record.IssuerKey = pki.KeyFingerprint(signer).String()
	}
	t.set.Record.Remote = nil
	t.set.Record.IssuedAt = req.Now.UTC().Truncate(time.Second)
	t.set.Record.Duration = c.Duration.String()
	t.set.Record.Altered = t.result.Altered
	a.part(t, st)
	if st.remote != nil && st.remote.pending != nil {
		a.answers(t)
	}
	return nil
}

// sign gets the request answered, by the issuer or by the new key itself.
func (a *applier) sign(ctx context.Context, c *spec.Certificate, req pki.Request, key *pki.Key) (pki.Chain, *authority, error) {
	if c.Issuer == "" {
		cert, err := pki.SelfSign(req, key)
		return pki.Chain{cert}, nil, err
	}
	up := a.authorities[c.Issuer]
	if up.err != nil {
		return nil, nil, fmt.Errorf("issuer %q %w", c.Issuer, up.err)
	}
	if up.broken != nil {
		return nil, nil, fmt.Errorf("nothing is issued that does not chain: issuer %q %w", c.Issuer, up.broken)
	}
	answer, err := up.issuer.Issue(ctx, req)
	if err != nil {
		return nil, nil, fmt.Errorf("issuer %q: %w", c.Issuer, err)
	}
	if len(answer) == 0 {
		return nil, nil, fmt.Errorf("issuer %q answered without a certificate", c.Issuer)
	}
	// A CA of this spec has its chain in the spec too, and that is the one that
	// the outputs are compared with.
	return append(pki.Chain{answer[0]}, up.chain...), up, nil
}

// compare notes what the issuer altered. A lifetime that the CA's own end cut
// off is a warning: the plan knows of it without a record.
func (t *task) compare(req pki.Request, up *authority) {
	have, want := pki.IdentityOf(t.issued), pki.Wanted(t.cert)
	t.result.Altered = pki.Compare(&have, &want)
	lifetime := t.issued.NotAfter.Sub(req.Now)
	if (lifetime - req.Duration).Abs() <= time.Minute {
		return
	}
	if up == nil { // the answer may be old by now, and an issuer may count from when it backdates to
		whole := t.issued.NotAfter.Sub(t.issued.NotBefore)
		if whole >= req.Duration-time.Minute && whole <= req.Duration+pki.Backdate+time.Minute {
			return
		}
		if lifetime > 10*time.Minute {
			lifetime = lifetime.Round(time.Minute) // what it took to fetch it says nothing
		}
	}
	if up != nil && lifetime < req.Duration && !t.issued.NotAfter.Before(up.cert.NotAfter) {
		t.result.Warnings = append(t.result.Warnings, fmt.Sprintf("lives until %s only, as long as issuer %q", stamp(t.issued.NotAfter), t.cert.Issuer))
		return
	}
	t.result.Altered = append(t.result.Altered, pki.Difference{Field: "duration",
		From: spec.FormatDuration(lifetime.Round(time.Second)), To: spec.FormatDuration(req.Duration)})
}

// repair builds the set that writes the outputs that drifted, from the material
// that is there.
func (a *applier) repair(ctx context.Context, t *task) error {
	c, st := t.cert, a.state.Of(t.cert.ID)
	m := pki.Material{}
	outputs := make([]spec.Output, 0, len(t.item.Outputs))
	drifted := make(map[string]bool, len(t.item.Outputs))
	for _, path := range t.item.Outputs {
		drifted[path] = true
	}
	needKey := false
	for _, o := range c.Outputs {
		if drifted[o.Path] {
			outputs = append(outputs, o)
			needKey = needKey || o.Form.HoldsKey()
		}
	}
	var err error
	if needKey {
		if m.Key, err = a.readKey(ctx, c, st); err != nil {
			return err
		}
	}
	leaf, err := a.readLeaf(ctx, c, st)
	if err != nil {
		return err
	}
	m.Chain, m.Anchor = pki.Chain{leaf}, leaf
	if i := a.remoteIssuer(c); i != nil {
		above, err := a.above(ctx, c, st)
		if err != nil {
			return err
		}
		m.Chain, m.Anchor = append(m.Chain, above...), st.remote.anchor
	} else if c.Issuer != "" {
		up := a.authorities[c.Issuer]
		if up.cert == nil {
			return fmt.Errorf("issuer %q %w", c.Issuer, up.err)
		}
		if up.broken != nil {
			return fmt.Errorf("nothing is written that does not chain: issuer %q %w", c.Issuer, up.broken)
		}
		if err := pki.SignedBy(leaf, up.cert); err != nil {
			return fmt.Errorf("nothing is written that does not chain: issuer %q: %w", c.Issuer, err)
		}
		m.Chain, m.Anchor = append(m.Chain, up.chain...), up.anchor
	}
	t.set = Set{ID: c.ID, Archive: outputs}
	if t.set.Write, err = a.files(ctx, c, m, outputs); err != nil {
		return err
	}
	t.set.Record = a.record(c, st, t.set.Write, st.settled() && !st.Record.IssuedAt.IsZero())
	t.set.Record.Source = c.Source
	a.part(t, st)
	return nil
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

// files renders the outputs.
func (a *applier) files(ctx context.Context, c *spec.Certificate, m pki.Material, outputs []spec.Output) ([]File, error) {
	var password []byte
	var err error
	if ref := c.PrivateKey.Password; ref != nil && m.Key != nil {
		if password, err = a.Password(ref); err != nil {
			return nil, err
		}
	}
	files := make([]File, len(outputs))
	for i, o := range outputs {
		var data []byte
		switch {
		case o.Form.IsKeystore():
			data, err = a.encodeKeystore(o, m)
		case o.Form.IsKubeconfig():
			data, err = a.encodeKubeconfig(ctx, c, o, m)
		default:
			data, err = pki.Encode(o.Form, m, c.PrivateKey.Encoding, password)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Field(), err)
		}
		files[i] = File{Output: o, Data: data}
	}
	return files, nil
}

// record returns the certificate's record as it is after the files are written.
// Outputs that an earlier spec had stay in it until they are pruned. The files that
// a certificate had when it was adopted, not issued, are not ours to prune.
func (a *applier) record(c *spec.Certificate, st *CertState, written []File, ours bool) *Record {
	r := Record{FormatVersion: RecordVersion, Kind: c.Kind, Name: c.Name}
	if st.Leaf != nil {
		r.Fingerprint, r.Key = st.Leaf.Fingerprint.String(), st.Leaf.Key.String()
	}
	if st.settled() {
		r = *st.Record
	}
	r.Outputs = make([]RecordedOutput, 0, len(c.Outputs))
	theirs := make(map[string]bool)
	for i, o := range c.Outputs {
		theirs[o.Path] = !ours && (o.Object != nil || st.Outputs[i].Exists && !st.Record.has(o.Path))
	}
	isWritten := make(map[string]bool, len(written))
	objects := make(map[objectKey]bool) // which are written as a whole
	for _, f := range written {
		isWritten[f.Output.Path] = true
		if f.Output.Object != nil {
			objects[keyOf(f.Output.Object)] = true
		}
		if !theirs[f.Output.Path] {
			r.Outputs = append(r.Outputs, recordedOutput(f))
		}
	}
	if st.Record != nil {
		for _, old := range st.Record.Outputs {
			if !isWritten[old.Path] && !(old.Object != nil && objects[keyOf(old.Object.object())]) {
				r.Outputs = append(r.Outputs, old)
			}
		}
	}
	return &r
}

// changed leaves out the files that are there as they would be written: they keep
// their inodes and times. The files of a directory set are written as one, and so is
// an object.
func changed(c *spec.Certificate, st *CertState, files []File) []File {
	as := make(map[string][sha256.Size]byte, len(c.Outputs))
	for i, o := range c.Outputs {
		if s := &st.Outputs[i]; o.Dir == "" && o.Object == nil && len(s.Drift) == 0 {
			as[o.Path] = s.digest
		}
	}
	return slices.DeleteFunc(files, func(f File) bool {
		digest, ok := as[f.Output.Path]
		return ok && digest == sha256.Sum256(f.Data)
	})
}

func anyExists(st *CertState) bool {
	for i := range st.Outputs {
		if st.Outputs[i].Exists {
			return true
		}
	}
	return false
}
