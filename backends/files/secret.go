package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/certsync/certsync/spec"
)

// maxSecret is how long a password may be, in bytes.
const maxSecret = 64 << 10

// Secret returns the password that a reference means: the content of a file
// without one trailing newline, or the value of an environment variable. A
// variable that is not set is an error, an empty value is a password.
func Secret(ref *spec.SecretRef) ([]byte, error) {
	if ref.Env != "" {
		value, ok := os.LookupEnv(ref.Env)
		if !ok {
			return nil, fmt.Errorf("password: environment variable %s is not set", ref.Env)
		}
		return []byte(value), nil
	}
	f, err := os.Open(ref.File)
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	if len(data) > maxSecret {
		return nil, errors.New("password: " + ref.File + " is too long to be one")
	}
	data, _ = bytes.CutSuffix(data, []byte("\n"))
	data, _ = bytes.CutSuffix(data, []byte("\r"))
	return data, nil
}
