package files

import (
	"container/list"
	"fmt"
	"sync"
)

// dirCacheSize bounds the directories that are kept open: a batch may touch
// more of them than a process may have descriptors.
const dirCacheSize = 64

// dirCache keeps the directories that were used last open. A directory in use
// is never closed.
type dirCache struct {
	fs   FS
	mu   sync.Mutex
	open map[string]*list.Element // of *dirHandle
	lru  *list.List               // front is the latest
}

// dirHandle is an open directory in use until put.
type dirHandle struct {
	Dir
	path  string
	info  Info
	cache *dirCache
	users int
	stale bool // not in the cache any more: close after the last use
}

func newDirCache(fs FS) *dirCache {
	return &dirCache{fs: fs, open: map[string]*list.Element{}, lru: list.New()}
}

// get opens a directory, or finds it open; put gives it back.
func (c *dirCache) get(path string) (*dirHandle, error) {
	c.mu.Lock()
	if e, ok := c.open[path]; ok {
		h := e.Value.(*dirHandle)
		h.users++
		c.lru.MoveToFront(e)
		c.mu.Unlock()
		return h, nil
	}
	c.mu.Unlock()

	d, err := c.fs.OpenDir(path)
	if err != nil {
		return nil, err
	}
	info, err := d.Stat()
	if err != nil {
		closeQuietly(d)
		return nil, err
	}
	h := &dirHandle{Dir: d, path: path, info: info, cache: c, users: 1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.open[path]; ok { // somebody was faster
		closeQuietly(d)
		h = e.Value.(*dirHandle)
		h.users++
		return h, nil
	}
	c.open[path] = c.lru.PushFront(h)
	for e := c.lru.Back(); e != nil && c.lru.Len() > dirCacheSize; {
		prev := e.Prev()
		if e.Value.(*dirHandle).users == 0 {
			c.drop(e)
		}
		e = prev
	}
	return h, nil
}

// put ends a use.
func (h *dirHandle) put() {
	c := h.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.users--; h.users == 0 && h.stale {
		closeQuietly(h.Dir)
	}
}

// move renames within the directory.
func (h *dirHandle) move(from, to string) error { return h.Dir.Rename(from, h.Dir, to) }

// use runs f with a directory.
func (c *dirCache) use(path string, f func(d *dirHandle) error) error {
	h, err := c.get(path)
	if err != nil {
		return err
	}
	defer h.put()
	return f(h)
}

// reset forgets all directories: what their paths name may have changed.
func (c *dirCache) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.lru.Front(); e != nil; {
		next := e.Next()
		c.drop(e)
		e = next
	}
}

// forget drops one directory, which is about to be removed.
func (c *dirCache) forget(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.open[path]; ok {
		c.drop(e)
	}
}

func (c *dirCache) drop(e *list.Element) {
	h := e.Value.(*dirHandle)
	c.lru.Remove(e)
	delete(c.open, h.path)
	h.stale = true
	if h.users == 0 {
		closeQuietly(h.Dir)
	}
}

// verify fails if the directory is another one than it was.
func (h *dirHandle) verify(was Info) error {
	if !h.info.same(was) {
		return fmt.Errorf("directory %s was replaced meanwhile", h.path)
	}
	return nil
}

// closeQuietly closes a directory. Nothing written depends on it: durability
// comes from Sync.
func closeQuietly(d Dir) { _ = d.Close() }
