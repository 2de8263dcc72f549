package spec

import (
	"bytes"
	"encoding/json"
)

// Schema returns the JSON Schema (draft 2020-12) of a spec, for editors. It is
// laxer than Load: it knows nothing of references between parts of a spec.
func Schema() []byte {
	s := specTable.shape().schema
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "certsync spec"
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		panic(err) // maps of strings, numbers and the like
	}
	return buf.Bytes()
}
