package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"gopkg.in/yaml.v3"
)

// What a document that is no spec may be: its size, and what aliases make of it.
const (
	maxDocument = 4 << 20
	maxNodes    = 100_000
)

// ErrTooMuch is wrapped by the errors of ReadYAML about what other programs may
// read, and is more than it does.
var ErrTooMuch = errors.New("is not read")

// ReadYAML reads a document of YAML or JSON that is no spec, such as a kubeconfig,
// which may be a stranger's. Mappings become map[string]any, lists []any, null nil,
// and all other scalars strings, as they are written. A key that is there twice is
// an error, and so is a second document. No error shows any of the content.
func ReadYAML(data []byte) (any, error) {
	if len(data) > maxDocument {
		return nil, fmt.Errorf("YAML of more than %d MiB %w", maxDocument>>20, ErrTooMuch)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := decodeNode(dec, &doc); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("it is empty")
	case err != nil:
		return nil, fmt.Errorf("not valid YAML in line %d", syntaxProblem(&source{}, err).Pos.Line)
	}
	if err := decodeNode(dec, &more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("YAML of more than one document %w", ErrTooMuch)
	}
	if len(doc.Content) == 0 {
		return nil, errors.New("it is empty")
	}
	nodes := 0
	return plain(doc.Content[0], &nodes)
}

func plain(n *yaml.Node, nodes *int) (any, error) {
	if *nodes++; *nodes > maxNodes {
		return nil, fmt.Errorf("YAML of more than %d values %w", maxNodes, ErrTooMuch)
	}
	n = deref(n)
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := deref(n.Content[i])
			if k.Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("a key in line %d is no name", k.Line)
			}
			if _, twice := m[k.Value]; twice {
				return nil, fmt.Errorf("YAML with a key that is there twice, in line %d, %w", k.Line, ErrTooMuch)
			}
			v, err := plain(n.Content[i+1], nodes)
			if err != nil {
				return nil, err
			}
			m[k.Value] = v
		}
		return m, nil
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			v, err := plain(item, nodes)
			if err != nil {
				return nil, err
			}
			list[i] = v
		}
		return list, nil
	}
	if n.ShortTag() == "!!null" {
		return nil, nil //nolint:nilnil // null is a value
	}
	return n.Value, nil
}
