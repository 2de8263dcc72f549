package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/certsync/certsync/backends/files"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"certsync": func() { os.Exit(run(os.Args[1:])) },
	})
}

// TestScripts runs testdata/script/*.txtar. Besides testscript's own commands
// they have those of scriptCommands.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition:           condition,
		Cmds:                scriptCommands,
		Setup: func(env *testscript.Env) error {
			// unprivileged has to get to the work directory.
			return os.Chmod(filepath.Dir(env.WorkDir), 0o755)
		},
	})
}

// condition knows openssl and keytool, whether they are there, which CI must have;
// and systemspec, whether this machine has a spec of its own.
func condition(name string) (bool, error) {
	switch name {
	case "systemspec":
		_, err := os.Lstat(systemSpec)
		return err == nil, nil
	case "openssl", "keytool":
	default:
		return false, fmt.Errorf("unknown condition %q", name)
	}
	_, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		return false, fmt.Errorf("%s is not installed, and CI must run this test", name)
	}
	return err == nil, nil
}

var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":        exits,
	"unprivileged": unprivileged,
	"snapshot":     snapshot,
	"samefiles":    sameFiles,
	"nostray":      noStray,
	"resign":       resign,
	"json":         checkJSON,
	"nokey":        noKey,
	"holdlock":     holdLock,
	"edit":         edit,
	"mode":         checkMode,
	"tlsserver":    tlsServer,
	"textserver":   textServer,
}

// exits CODE COMMAND… runs a command, which has to end with that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, "exits CODE COMMAND…", !neg && len(args) >= 2)
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	have := 0
	var exit *exec.ExitError
	switch err := ts.Exec(args[1], args[2:]...); {
	case errors.As(err, &exit):
		have = exit.ExitCode()
	case err != nil:
		ts.Check(err)
	}
	if have != want {
		ts.Fatalf("exit code %d, want %d", have, want)
	}
}

// unprivileged ARGS… runs certsync as somebody for whom permissions count. Root,
// for whom they do not, gives the work directory to nobody and becomes nobody.
func unprivileged(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, "unprivileged ARGS…", len(args) > 0)
	// The link leads to the test's executable even where its path is not open to
	// everybody. What it runs is told by the name that it is called with.
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "certsync"
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("WORK")}
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	if os.Geteuid() == 0 {
		const nobody = 65534
		ts.Check(filepath.WalkDir(ts.Getenv("WORK"), func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, nobody, nobody))
		}))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		ts.Fatalf("unprivileged: %v", err)
	case neg && err == nil:
		ts.Fatalf("unexpected success")
	case !neg && err != nil:
		ts.Fatalf("unexpected failure: %v", err)
	}
}

// seenFile is a file as snapshot saw it.
type seenFile struct {
	path  string
	ino   uint64
	mtime time.Time
	mode  fs.FileMode
	sum   [sha256.Size]byte
}

func look(ts *testscript.TestScript, paths []string) []seenFile {
	var seen []seenFile
	for _, path := range paths {
		ts.Check(filepath.WalkDir(ts.MkAbs(path), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			f := seenFile{path: path, mtime: info.ModTime(), mode: info.Mode()}
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				f.ino = st.Ino
			}
			if info.Mode().IsRegular() {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				f.sum = sha256.Sum256(data)
			}
			seen = append(seen, f)
			return nil
		}))
	}
	return seen
}

// snapshot PATH… remembers files, and all files in directories.
func snapshot(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, "snapshot PATH…", !neg && len(args) > 0)
	data, err := json.Marshal(args)
	ts.Check(err)
	ts.Setenv("SNAPSHOT_PATHS", string(data))
	ts.Setenv("SNAPSHOT", fmt.Sprintf("%+v", look(ts, args)))
}

// samefiles checks that the files of the last snapshot have the inodes, times,
// modes and contents that they had then, and that there are no others.
func sameFiles(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, "samefiles", len(args) == 0)
	var paths []string
	ts.Check(json.Unmarshal([]byte(ts.Getenv("SNAPSHOT_PATHS")), &paths))
	same := fmt.Sprintf("%+v", look(ts, paths)) == ts.Getenv("SNAPSHOT")
	switch {
	case same && neg:
		ts.Fatalf("files %q are unchanged", paths)
	case !same && !neg:
		ts.Fatalf("files %q have changed", paths)
	}
}

// nostray DIR checks that no temporary file is left below DIR, and that the
// journal of a state directory there is empty.
func noStray(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, "nostray DIR", !neg && len(args) == 1)
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.Contains(d.Name(), ".certsync-") || !d.IsDir() && filepath.Base(filepath.Dir(path)) == "journal" {
			return fmt.Errorf("left behind: %s", path)
		}
		return nil
	}))
}

// resign CERT CA CAKEY FROM TO signs CERT anew for another time, in days from now.
func resign(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, "resign CERT CA CAKEY FROM TO", !neg && len(args) == 5)
	certs, err := pki.ParseCertificates([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	ca, err := pki.ParseCertificates([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	key, _, err := pki.ParseKey([]byte(ts.ReadFile(args[2])), nil)
	ts.Check(err)
	template := *certs[0]
	for i, at := range []*time.Time{&template.NotBefore, &template.NotAfter} {
		days, err := strconv.Atoi(args[3+i])
		ts.Check(err)
		*at = time.Now().Add(time.Duration(days) * spec.Day)
	}
	template.SerialNumber = nil
	template.SignatureAlgorithm = x509.UnknownSignatureAlgorithm
	der, err := x509.CreateCertificate(rand.Reader, &template, ca[0], template.PublicKey, key.Signer())
	ts.Check(err)
	cert, err := x509.ParseCertificate(der)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pki.EncodeCertificates(cert), 0o644))
}

// json FILE [PATH VALUE]… checks that a file, or stdout, is JSON, and what is
// at paths such as items.0.action.
func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, "json FILE [PATH VALUE]…", !neg && len(args)%2 == 1)
	var v any
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	dec.UseNumber()
	ts.Check(dec.Decode(&v))
	if dec.More() {
		ts.Fatalf("%s: more than one JSON value", args[0])
	}
	for i := 1; i < len(args); i += 2 {
		if have := fmt.Sprint(lookup(v, args[i])); have != args[i+1] {
			ts.Fatalf("%s: %s is %s, want %s", args[0], args[i], have, args[i+1])
		}
	}
}

func lookup(v any, path string) any {
	for _, step := range strings.Split(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

// nokey KEY PATH… checks that the private key in the file KEY is in none of the
// others, whichever way it may be written. Directories are searched through.
func noKey(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, "nokey KEY PATH…", !neg && len(args) >= 2)
	needles := keyBytes(ts, args[0])
	check := func(name string, data []byte) {
		for _, needle := range needles {
			if bytes.Contains(data, needle) {
				ts.Fatalf("%s holds the private key", name)
			}
		}
	}
	for _, path := range args[1:] {
		if path == "stdout" || path == "stderr" {
			check(path, []byte(ts.ReadFile(path)))
			continue
		}
		ts.Check(filepath.WalkDir(ts.MkAbs(path), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			check(path, data)
			return err
		}))
	}
}

// keyBytes returns what gives a key away: its secret number in several forms,
// and the lines of its file.
func keyBytes(ts *testscript.TestScript, path string) [][]byte {
	block, _ := pem.Decode([]byte(ts.ReadFile(path)))
	if block == nil {
		ts.Fatalf("%s holds no PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	ts.Check(err)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		ts.Fatalf("%s: want an ECDSA key", path)
	}
	d, err := key.Bytes()
	ts.Check(err)
	needles := [][]byte{d, []byte(hex.EncodeToString(d)), []byte(strings.ToUpper(hex.EncodeToString(d))),
		[]byte(base64.StdEncoding.EncodeToString(d)), []byte(base64.RawURLEncoding.EncodeToString(d))}
	for line := range strings.Lines(base64.StdEncoding.EncodeToString(block.Bytes)) {
		needles = append(needles, []byte(line[:64]))
	}
	return append(needles, []byte("PRIVATE KEY--"))
}

// holdlock DIR holds the lock on a state directory until the script ends.
func holdLock(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, "holdlock DIR", !neg && len(args) == 1)
	store, err := files.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	release, err := store.Lock("certsync apply")
	ts.Check(err)
	ts.Defer(func() { ts.Check(release()) })
}

// edit FILE OLD NEW replaces all OLD in a file by NEW; there has to be one.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, "edit FILE OLD NEW", !neg && len(args) == 3)
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s: no %q in it", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o644))
}

// mode MODE FILE… checks permissions, in octal.
func checkMode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, "mode MODE FILE…", !neg && len(args) >= 2)
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	for _, path := range args[1:] {
		info, err := os.Stat(ts.MkAbs(path))
		ts.Check(err)
		if have := info.Mode().Perm(); have != fs.FileMode(want) {
			ts.Fatalf("%s has mode %04o, want %04o", path, have, want)
		}
	}
}

func usage(ts *testscript.TestScript, text string, ok bool) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}
