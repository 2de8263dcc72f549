package reconcile

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
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
