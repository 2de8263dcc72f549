package spec

import (
	"bytes"
	"errors"
	"io"
	"runtime"

	"gopkg.in/yaml.v3"
)

// A large file is parsed in parts: a tree of nodes takes ten times the memory of
// its text, and parts can be parsed in parallel. A part is a run of entries of
// the certificates section, which must be the last of the file and written in
// block style. Where a part begins is found by indentation alone, which may be
// wrong inside a quoted or flow value that spans lines. Then the part before it
// is no YAML by itself, as is a part with an alias of an anchor elsewhere, and
// the file is parsed again as a whole. So a file means the same either way.

// part is a run of certificates with the place where its text begins.
type part struct {
	src    *source
	text   []byte
	column int // of its entries
}

// minPart is a size from which a part is worth its overhead.
var minPart = 256 << 10

// batch is a certificates section, or a part of one that is not parsed yet.
type batch struct {
	value
	part *part
}

// addParts adds a file in parts, and tells whether it can be.
func (d *loader) addParts(src *source, content []byte) bool {
	if d.whole || len(content) < 2*minPart {
		return false
	}
	head, parts := split(src, content)
	if parts == nil {
		return false
	}
	root := parseMapping(head, 1)
	if root == nil {
		return false
	}
	v := value{node: root, src: src, scope: d.root}
	if _, twice := peek(v, "certificates"); twice {
		return false
	}
	specTable.decode(d, v, d)
	for i := range parts {
		d.certificates = append(d.certificates, batch{part: &parts[i]})
	}
	return true
}

// split returns what stands before the certificates, and the certificates in
// parts; none if the file is not of the kind that can be split.
func split(src *source, content []byte) (head []byte, parts []part) {
	const key = "\ncertificates:\n"
	at := bytes.Index(content, []byte(key))
	if at < 0 || !plainLines(content) {
		return nil, nil
	}
	start := at + len(key)
	indent := -1
	begin, line := start, bytes.Count(content[:start], []byte("\n"))
	beginLine := line
	for pos := start; pos < len(content); line++ {
		end := len(content)
		if n := bytes.IndexByte(content[pos:], '\n'); n >= 0 {
			end = pos + n + 1
		}
		text := content[pos:end]
		spaces := span(string(text[:min(len(text), 64)]), " ")
		if c := text[min(spaces, len(text)-1)]; c != '\n' && c != '#' {
			switch {
			case spaces == 0:
				return nil, nil // another section
			case indent < 0:
				indent = spaces
			}
			if spaces == indent && pos-begin >= minPart {
				parts = append(parts, newPart(src, content[begin:pos], beginLine, indent+1))
				begin, beginLine = pos, line
			}
		}
		pos = end
	}
	if len(parts) == 0 {
		return nil, nil
	}
	return content[:at+1], append(parts, newPart(src, content[begin:], beginLine, indent+1))
}

func newPart(src *source, text []byte, line, column int) part {
	return part{&source{file: src.file, dir: src.dir, abs: src.abs, line: line}, text, column}
}

// plainLines tells whether lines end as they do here, and only one document is
// in the text.
func plainLines(content []byte) bool {
	for _, odd := range []string{"\r", "\u0085", "\u2028", "\u2029", "\ufeff", "\n---", "\n...", "\n%"} {
		if bytes.Contains(content, []byte(odd)) {
			return false
		}
	}
	return !bytes.HasPrefix(content, []byte("---")) && !bytes.HasPrefix(content, []byte("%"))
}

// parseMapping parses a text that is one mapping in block style whose entries
// begin at the given column; nil if it is not. What is {} by itself, or has a tag or an anchor of its own, is no run of
// entries of a larger mapping.
func parseMapping(text []byte, column int) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := decodeNode(dec, &doc); err != nil || len(doc.Content) == 0 {
		return nil
	}
	if !errors.Is(decodeNode(dec, &more), io.EOF) {
		return nil
	}
	if root := doc.Content[0]; root.Kind == yaml.MappingNode && root.Style == 0 && root.Anchor == "" && root.Column == column {
		return root
	}
	return nil
}

// parseAhead parses the parts of batches in parallel, a few of them ahead of the
// one that is asked for. A nil node is a part that is no mapping. The parts must
// be asked for in their order, each once; stop ends it.
func parseAhead(batches []batch) (next func() *yaml.Node, stop func()) {
	var parts []*part
	for _, b := range batches {
		if b.part != nil {
			parts = append(parts, b.part)
		}
	}
	results := make([]chan *yaml.Node, len(parts))
	for i := range results {
		results[i] = make(chan *yaml.Node, 1)
	}
	ahead := make(chan struct{}, min(runtime.GOMAXPROCS(0), 8))
	done := make(chan struct{})
	go func() {
		for i, p := range parts {
			select {
			case ahead <- struct{}{}:
			case <-done:
				return
			}
			go func() { results[i] <- parseMapping(p.text, p.column) }()
		}
	}()
	i := 0
	next = func() *yaml.Node {
		node := <-results[i]
		i++
		<-ahead
		return node
	}
	return next, func() { close(done) }
}
