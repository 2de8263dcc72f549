package filestest

import (
	"io/fs"
	"math/rand/v2"
	"slices"
)

// Keep tells what survives a crash of what was not synced.
type Keep int

// The ways to crash.
const (
	// KeepAll keeps everything: the program was killed, the machine was not.
	KeepAll Keep = iota
	// KeepNone loses everything that was not synced.
	KeepNone
	// KeepSome decides for each change of a directory, for each file's content
	// and for each mode anew, from the seed. Files may be empty or torn, and
	// renames that came later may be kept while earlier ones are lost.
	KeepSome
)

// Clone returns a filesystem of its own with the same files, all durable.
func (m *Mem) Clone() *Mem { return m.Crash(KeepAll, 0) }

// Crash returns the filesystem as it is after a crash and a reboot. m is to
// be dropped, or to be cloned again.
func (m *Mem) Crash(keep Keep, seed uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	random := rand.New(rand.NewPCG(seed, 0))
	kept := func() bool {
		switch keep {
		case KeepAll:
			return true
		case KeepNone:
			return false
		}
		return random.IntN(2) == 0
	}
	for _, o := range m.ops {
		if kept() {
			o.save()
		}
	}
	after := &Mem{NoLink: m.NoLink, NoSyncFS: m.NoSyncFS, locks: map[*node]bool{}, next: m.next}
	copies := map[*node]*node{}
	var restart func(n *node) *node
	restart = func(n *node) *node {
		if c := copies[n]; c != nil {
			return c
		}
		c := &node{ino: n.ino, text: n.text}
		copies[n] = c
		c.mode, c.uid, c.gid = n.saved.mode, n.saved.uid, n.saved.gid
		if n.mode&fs.ModeSymlink != 0 || kept() {
			c.mode, c.uid, c.gid = n.mode, n.uid, n.gid
		}
		c.data = n.saved.data
		if kept() {
			c.data = n.data
		} else if keep == KeepSome && random.IntN(2) == 0 && len(n.data) > len(n.saved.data) {
			c.data = n.data[:random.IntN(len(n.data))]
		}
		c.data = slices.Clone(c.data)
		if n.mode.IsDir() {
			c.entries, c.saved.entries = map[string]*node{}, map[string]*node{}
			names := make([]string, 0, len(n.saved.entries))
			for name := range n.saved.entries {
				names = append(names, name)
			}
			slices.Sort(names) // so that the seed decides, not the map's order
			for _, name := range names {
				c.entries[name] = restart(n.saved.entries[name])
				c.saved.entries[name] = c.entries[name]
			}
		}
		c.save()
		return c
	}
	after.root = restart(m.root)
	return after
}
