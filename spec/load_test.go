package spec

import (
	"encoding/json"
	"testing"
)

func TestLoadQuickstart(t *testing.T) {
	s, err := Load([]string{"testdata/quickstart.good.yaml"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.MarshalIndent(s, "", " ")
	t.Logf("%s", b)
}
