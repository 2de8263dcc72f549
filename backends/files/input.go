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
	data, err := readInput(ref.File, maxSecret)
	switch {
	case errors.Is(err, errTooLarge):
		return nil, errors.New("password: " + ref.File + " is too long to be one")
	case err != nil:
		return nil, fmt.Errorf("password: %w", err)
	}
	data, _ = bytes.CutSuffix(data, []byte("\n"))
	data, _ = bytes.CutSuffix(data, []byte("\r"))
	return data, nil
}

// Input returns what is in a file that a spec names and that is no output. It may
// be a symbolic link, as all files are in a mounted Secret or ConfigMap.
func Input(path string) ([]byte, error) {
	data, err := readInput(path, maxSize)
	if err != nil {
		return nil, opError("read", path, err)
	}
	return data, nil
}

func readInput(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, errTooLarge
	}
	return data, nil
}
