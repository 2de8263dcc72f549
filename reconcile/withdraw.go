package reconcile

import (
	"context"
	"time"

	"github.com/certsync/certsync/spec"
)

// tidyWithin bounds what is done in passing, and may as well be left undone.
const tidyWithin = 10 * time.Second

// withdraw makes an issuer forget a request. Whether it does so is of no
// consequence.
func (a *applier) withdraw(ctx context.Context, i *spec.Issuer, sent Sent) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWithin)
	defer cancel()
	if remote, err := a.opener.remote(ctx, i); err == nil {
		_ = remote.Withdraw(ctx, sent) // it vanishes by itself in time
	}
}

// withdrawPending withdraws a request that is of no use any more, where the issuer
// is still known.
func (a *applier) withdrawPending(ctx context.Context, p *PendingRequest) {
	i := a.remotes[p.Issuer]
	if i == nil || p.UID == "" {
		return
	}
	if sent, err := p.sent(a.options.Now()); err == nil {
		a.withdraw(ctx, i, sent)
	}
}

// forget removes the requests of what the plan is about that are of no use any
// more: the spec has changed back, or has another kind of issuer, which has signed.
func (a *applier) forget(ctx context.Context, p *Plan) {
	store, err := a.pendingStore()
	if err != nil || ctx.Err() != nil {
		return
	}
	for _, t := range a.tasks {
		if st := a.asked(t.item); st != nil && st.issuer == nil && t.item.Action.Issues() && t.result.Err == nil {
			a.withdrawPending(ctx, st.pending) // it went with the commit
		}
	}
	for i := range p.Items {
		it := &p.Items[i]
		st := a.asked(it)
		if st == nil || st.useful(a.options.Now()) || it.Action.Issues() || it.Error != "" {
			continue
		}
		if store.RemovePending(ctx, it.ID()) == nil {
			a.withdrawPending(ctx, st.pending)
		}
	}
}

// asked returns what was found of an item's request; nil if it has none.
func (a *applier) asked(it *Item) *remoteState {
	if st := a.state.Of(it.ID()); st != nil && st.remote != nil && st.remote.pending != nil {
		return st.remote
	}
	return nil
}

// noteRefusal keeps a refusal that the plan tells of: the issuer forgets it.
func (a *applier) noteRefusal(ctx context.Context, t *task) {
	st := a.state.Of(t.item.ID())
	if st == nil || !st.remote.useful(a.options.Now()) || !st.remote.answer.State.refused() || st.remote.pending.Refused != nil {
		return
	}
	store, err := a.pendingStore()
	if err != nil {
		return
	}
	p, err := store.Pending(ctx, t.item.ID())
	if err == nil && p != nil && p.Request == st.remote.pending.Request {
		_ = a.refused(ctx, p, st.remote.answer) // the item has its error already
	}
}
