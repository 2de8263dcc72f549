package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// savePlan writes a plan to a file that is new or a saved plan, as a whole.
func savePlan(path string, p *reconcile.Plan, sp *spec.Spec, stateDir string) error {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	target, err := resolve(path)
	if err != nil {
		return err
	}
	if err := checkUnused(path, target, sp, stateDir); err != nil {
		return err
	}
	if err := checkReplaceable(path, target); err != nil {
		return err
	}
	return replaceFile(target, append(data, '\n'))
}

// resolve returns the absolute path of a file that may not exist yet, without
// symbolic links as far as they lead somewhere.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if target, err := filepath.EvalSymlinks(abs); err == nil {
		return target, nil
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		return filepath.Join(dir, filepath.Base(abs)), nil
	}
	return abs, nil
}

// checkUnused refuses a file that the spec is in or writes, be it there or not.
func checkUnused(path, target string, sp *spec.Spec, stateDir string) error {
	same := func(used string) bool {
		if filepath.Base(used) != filepath.Base(target) {
			return false // what it is a link to is there, and no saved plan
		}
		resolved, err := resolve(used)
		return err == nil && resolved == target
	}
	within := func(dir string) bool {
		resolved, err := resolve(dir)
		if err != nil {
			return false
		}
		rel, err := filepath.Rel(resolved, target)
		return err == nil && filepath.IsLocal(rel)
	}
	for _, source := range sp.Sources {
		if same(source) {
			return fmt.Errorf("%s is a file of the spec", path)
		}
	}
	if within(stateDir) {
		return fmt.Errorf("%s lies inside the state directory", path)
	}
	seen := ""
	for c := range sp.All() {
		for _, o := range c.Outputs {
			switch {
			case o.Dir == "" && same(o.Path):
				return fmt.Errorf("%s is an output of %s", path, c.Title())
			case o.Dir != "" && o.Dir != seen && within(o.Dir):
				return fmt.Errorf("%s lies inside an output of %s", path, c.Title())
			}
			seen = o.Dir
		}
	}
	return nil
}

// checkReplaceable refuses a file that is there and not a saved plan.
func checkReplaceable(path, target string) error {
	info, err := os.Lstat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		data, err := os.ReadFile(target)
		if err != nil {
			return err
		}
		var saved map[string]json.RawMessage
		if json.Unmarshal(data, &saved) == nil && saved["formatVersion"] != nil && saved["items"] != nil {
			return nil
		}
	}
	return withHint(fmt.Errorf("%s is there already, and is not a saved plan", path), "give another name with --out FILE")
}

// replaceFile writes a file that only its owner reads: it is wholly there, and
// durable, or as it was before.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
