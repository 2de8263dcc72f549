package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Limits on what is read: a spec may come from a place that is not trusted to
// be small.
const (
	maxFileSize  = 64 << 20
	maxTotalSize = 256 << 20
	maxDepth     = 100
)

// maxExpansion bounds how many values aliases, forEach and layers add to those
// that the files state: room for 100,000 certificates with 50 each.
var maxExpansion = 5_000_000

// sourceFiles returns the files that paths name, those of a directory in the
// order of their names, each file once.
func sourceFiles(paths []string) ([]*source, error) {
	var files []*source
	seen := map[string]bool{}
	add := func(name string) error {
		abs, err := filepath.Abs(name)
		if err != nil {
			return fmt.Errorf("read spec: %w", err)
		}
		if !seen[abs] {
			seen[abs] = true
			files = append(files, &source{file: name, dir: filepath.Dir(abs)})
		}
		return nil
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, readError(p, err)
		}
		names := []string{p}
		if info.IsDir() {
			if names, err = yamlFiles(p); err != nil {
				return nil, err
			}
		}
		for _, name := range names {
			if err := add(name); err != nil {
				return nil, err
			}
		}
	}
	if len(files) == 0 {
		return nil, errors.New("read spec: no file is named")
	}
	return files, nil
}

// yamlFiles returns the spec files of a directory. Hidden ones are left out:
// they are what editors and ConfigMap mounts leave beside the real ones.
func yamlFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, readError(dir, err)
	}
	var names []string
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if ext != ".yaml" && ext != ".yml" || strings.HasPrefix(e.Name(), ".") || e.IsDir() {
			continue
		}
		names = append(names, filepath.Join(dir, e.Name()))
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("read spec %s: no *.yaml or *.yml file in the directory", dir)
	}
	slices.Sort(names)
	return names, nil
}

// readError names the file once, as the user named it.
func readError(name string, err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("read spec %s: %w", name, err)
}

// read returns a file's content; a file that is too large is a problem.
func (d *loader) read(src *source) ([]byte, error) {
	f, err := os.Open(src.file)
	if err != nil {
		return nil, readError(src.file, err)
	}
	defer f.Close()
	limit := min(maxFileSize, maxTotalSize-d.size)
	var buf bytes.Buffer
	if info, err := f.Stat(); err == nil && info.Size() <= int64(limit) {
		buf.Grow(int(info.Size()) + bytes.MinRead)
	}
	if _, err := io.Copy(&buf, io.LimitReader(f, int64(limit)+1)); err != nil {
		return nil, readError(src.file, err)
	}
	d.size += buf.Len()
	if buf.Len() > limit {
		d.problems = append(d.problems, Problem{Pos: Position{File: src.file},
			Message: fmt.Sprintf("a spec may have %d MiB in one file and %d MiB in all", maxFileSize>>20, maxTotalSize>>20)})
		return nil, nil
	}
	return buf.Bytes(), nil
}

// documents parses a file and yields the root of each document that is not empty.
func (d *loader) documents(src *source, content []byte, yield func(value)) {
	dec := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var doc yaml.Node
		err := decodeNode(dec, &doc)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			d.problems = append(d.problems, syntaxProblem(src, err))
			return
		}
		if len(doc.Content) == 0 {
			continue
		}
		root := value{node: deref(doc.Content[0]), src: src, scope: d.root}
		if !root.isNull() {
			yield(root)
		}
	}
}

// decodeNode parses one document. That yaml.v3 panics on some texts that are no
// YAML must not stop a daemon.
func decodeNode(dec *yaml.Decoder, doc *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	return dec.Decode(doc)
}

var syntaxLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxProblem takes the line out of what yaml.v3 says.
func syntaxProblem(src *source, err error) Problem {
	msg := err.Error()
	p := Problem{Pos: Position{File: src.file, Line: src.line + 1, Column: 1}}
	if m := syntaxLine.FindStringSubmatch(msg); m != nil {
		if line, err := strconv.Atoi(m[1]); err == nil {
			p.Pos.Line = src.line + line
		}
		msg = msg[len(m[0]):]
	}
	p.Message = "not valid YAML: " + msg
	return p
}
