package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/certsync/certsync/spec"
)

// starter is what init was asked for.
type starter struct {
	out        string
	servers    []string
	clients    []string
	kubernetes bool
}

func (a *app) initCommand() *cobra.Command {
	var s starter
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a starter spec",
		Long: `Write a commented spec to start from: a root CA, and a certificate for each server
and client. Without --server and --client it has one of each as an example. A file
that is there already is never overwritten.`,
		Example: "  certsync init --server www.example.com --server 10.0.0.1 --client jane",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.init(s)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&s.out, "out", "o", "certsync.yaml", "write to `FILE`; - is standard output")
	flags.StringArrayVar(&s.servers, "server", nil, "add a certificate for the server `HOST`, a DNS name or an IP address; may be given several times")
	flags.StringArrayVar(&s.clients, "client", nil, "add a certificate for the client `NAME`; may be given several times")
	flags.BoolVar(&s.kubernetes, "kubernetes", false, "have clients signed by a Kubernetes cluster, as users of it")
	return cmd
}

func (a *app) init(s starter) error {
	if len(s.servers)+len(s.clients) == 0 {
		s.clients = []string{"jane"}
		if !s.kubernetes {
			s.servers = []string{"localhost"}
		}
	}
	certs, err := s.certificates()
	if err != nil {
		return err
	}
	var text strings.Builder
	own := len(s.servers) > 0 || !s.kubernetes
	if err := starterSpec.Execute(&text, map[string]any{"Certificates": certs, "Own": own, "Kubernetes": s.kubernetes}); err != nil {
		return err
	}
	if s.out == "-" {
		_, err := fmt.Fprint(a.stdout, text.String())
		return err
	}
	if err := writeStarter(s.out, text.String()); err != nil {
		return err
	}
	flag := ""
	if s.out != "certsync.yaml" {
		flag = " -f " + s.out
	}
	cas := "1 CA"
	if !own {
		cas = "no CA"
	}
	_, err = fmt.Fprintf(a.stdout, "Wrote %s: %s and %s.\n\n"+
		"Read it, change it, then\n  certsync%s plan     shows what would be done\n  certsync%s apply    does it\n  certsync%s status   shows what is there\n",
		s.out, cas, count(len(certs), "certificate"), flag, flag, flag)
	return err
}

// writeStarter creates the file and makes sure that it is a valid spec; if it is
// not, the names given are to blame, and the file is removed again.
func writeStarter(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return withHint(fmt.Errorf("%s exists already: nothing was written", path), "give another name with --out FILE")
	}
	if err != nil {
		return fmt.Errorf("write the spec: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err == nil {
		_, err = spec.Load([]string{path}, spec.Options{})
	}
	if err == nil {
		return nil
	}
	err = errors.Join(err, os.Remove(path))
	var problems spec.Problems
	if !errors.As(err, &problems) {
		return fmt.Errorf("write the spec: %w", err)
	}
	messages := make([]string, len(problems))
	for i, p := range problems {
		messages[i] = p.Message
	}
	return errors.New(strings.Join(messages, "\n"))
}

// starterCertificate is one certificate of a starter spec. Values are quoted.
type starterCertificate struct {
	Name          string
	Client        bool
	CommonName    string
	DNSNames, IPs string // in the flow style of YAML; empty if there are none
}

func (s starter) certificates() ([]starterCertificate, error) {
	taken := map[string]bool{}
	name := func(wanted string) string {
		n := certificateName(wanted)
		for i := 2; taken[n]; i++ {
			n = certificateName(wanted) + "-" + strconv.Itoa(i)
		}
		taken[n] = true
		return n
	}
	var certs []starterCertificate
	for _, host := range s.servers {
		if err := plainText("--server", host); err != nil {
			return nil, err
		}
		c := starterCertificate{Name: name(host)}
		switch addr, err := netip.ParseAddr(strings.Trim(host, "[]")); {
		case err == nil:
			c.IPs = "[" + quoteYAML(addr.String()) + "]"
		case host == "localhost":
			c.DNSNames, c.IPs = "["+quoteYAML(host)+"]", `["127.0.0.1", "::1"]`
		default:
			c.DNSNames = "[" + quoteYAML(host) + "]"
		}
		certs = append(certs, c)
	}
	for _, client := range s.clients {
		if err := plainText("--client", client); err != nil {
			return nil, err
		}
		certs = append(certs, starterCertificate{Name: name(client), Client: true, CommonName: quoteYAML(client)})
	}
	return certs, nil
}

func plainText(flag, s string) error {
	if strings.TrimSpace(s) == "" || !utf8.ValidString(s) {
		return fmt.Errorf("%s %q: want a name", flag, s)
	}
	return nil
}

// certificateName makes a name that the spec takes of a host or a person.
func certificateName(s string) string {
	n := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, strings.Replace(s, "*.", "wildcard.", 1))
	if n = strings.Trim(manyDashes.ReplaceAllString(n, "-"), "-._"); n == "" {
		return "certificate"
	}
	return n
}

var manyDashes = regexp.MustCompile("--+")

// Key is the name as a key of YAML, in quotes where it would be no string.
func (c starterCertificate) Key() string {
	switch strings.ToLower(c.Name) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		return quoteYAML(c.Name)
	}
	if c.Name[0] >= '0' && c.Name[0] <= '9' {
		return quoteYAML(c.Name)
	}
	return c.Name
}

// quoteYAML writes a string in double quotes, so that neither YAML nor the
// spec's ${…} see anything in it.
func quoteYAML(s string) string {
	return strconv.Quote(strings.ReplaceAll(s, "${", "$${"))
}

var starterSpec = template.Must(template.New("spec").Parse(`# What certificates there are to be. certsync plan shows what is missing or
# different, certsync apply makes it so; both may be run any number of times.
apiVersion: certsync/v1

# What holds for all certificates below{{if .Own}} (not for the CA){{end}}, unless they say otherwise.
defaults:
  duration: 90d            # the lifetime; units are y, w, d, h, m
  renewBefore: 33%         # of the lifetime, or a duration such as 30d
  privateKey: {algorithm: ECDSA, size: 256}   # or RSA with 2048, 3072 or 4096; Ed25519

{{if .Own -}}
# What signs. Whoever has ca.key can make certificates that your clients trust:
# keep it safe, and make a backup.
{{else -}}
# What signs.
{{end -}}
issuers:
{{- if .Kubernetes}}
  # A signer of the cluster that kubectl talks to. apply sends it a request and prints
  # how to approve it; the next apply fetches the certificate, apply --wait waits.
  cluster:
    kubernetes: {signerName: kubernetes.io/kube-apiserver-client}
{{- end}}
{{- if .Own}}
  root:
    ca:
      commonName: my root CA
      # subject: {organizations: [Example Ltd], countries: [DE]}
      duration: 10y
      files:
        certificate: pki/ca.crt      # what clients and servers are to trust
        privateKey: pki/ca.key
{{- end}}

certificates:
{{- range .Certificates}}
{{if .Client}}
  {{.Key}}:
    issuer: {{if $.Kubernetes}}cluster{{else}}root{{end}}
    profile: client                  # the extended key usage client auth
    commonName: {{.CommonName}}{{if $.Kubernetes}}   # the user, to the apiserver{{end}}
    # subject: {organizations: [dev]}   # the groups, as Kubernetes reads them
{{- if $.Kubernetes}}
    # kubeconfig: {path: pki/{{.Name}}.kubeconfig, server: "https://HOST:6443"}
{{- end}}
    files:
      certificate: pki/{{.Name}}.crt
      privateKey: pki/{{.Name}}.key
{{- else}}
  {{.Key}}:
    issuer: root
    profile: server                  # the extended key usage server auth; peer is both
{{- if .DNSNames}}
    dnsNames: {{.DNSNames}}{{end}}
{{- if .IPs}}
    ipAddresses: {{.IPs}}{{end}}
    files:
      fullChain: pki/{{.Name}}.crt   # the certificate and the intermediates, as servers want it
      privateKey: pki/{{.Name}}.key  # {path: …, mode: "0640", group: nginx} lets nginx read it
{{- end}}
{{- end}}
`))
