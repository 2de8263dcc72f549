package files

import (
	"fmt"
	"os/user"
	"strconv"
	"sync"

	"github.com/certsync/certsync/spec"
)

// owners resolves the names of users and groups. It remembers the names that it
// found, for the same few stand in thousands of outputs; an unknown one is asked
// for again, for it may have been added.
type owners struct {
	users, groups sync.Map // name -> int
}

// ids returns the numbers of an output's owner and group, -1 for those that it
// does not state.
func (w *owners) ids(o spec.Output) (uid, gid int, err error) {
	uid, gid = -1, -1
	if o.Owner != "" {
		uid, err = resolve(&w.users, o.Owner, func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
		if err != nil {
			return 0, 0, fmt.Errorf("%s: owner %q: %w", o.Path, o.Owner, err)
		}
	}
	if o.Group != "" {
		gid, err = resolve(&w.groups, o.Group, func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
		if err != nil {
			return 0, 0, fmt.Errorf("%s: group %q: %w", o.Path, o.Group, err)
		}
	}
	return uid, gid, nil
}

func resolve(known *sync.Map, name string, lookup func(string) (string, error)) (int, error) {
	if id, ok := known.Load(name); ok {
		return id.(int), nil
	}
	number := name
	if _, err := strconv.ParseUint(name, 10, 31); err != nil {
		if number, err = lookup(name); err != nil {
			return 0, err
		}
	}
	id, err := strconv.Atoi(number)
	if err != nil {
		return 0, err
	}
	known.Store(name, id)
	return id, nil
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

func groupName(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return strconv.Itoa(gid)
}
