package spec

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// environment is what ${…} may refer to in the whole spec.
type environment struct {
	vars      map[string]string // nil while the vars themselves are read
	lookupEnv func(string) (string, bool)
	host      func(part string) (string, error)
	hostCache map[string]string
}

// scope is what ${…} may refer to in one place.
type scope struct {
	env  *environment
	name string // ${certificate.name}; empty outside certificates
	each *each  // nil outside forEach
}

// each is one item of forEach.
type each struct{ key, value string }

// interpolate replaces each ${…} in s; $${ stands for ${. What is put in is not
// looked at again.
func (sc *scope) interpolate(s string) (string, error) {
	if !strings.Contains(s, "${") {
		return s, nil
	}
	var out strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			out.WriteString(s)
			return out.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			out.WriteString(s[:i-1])
			out.WriteString("${")
			s = s[i+2:]
			continue
		}
		out.WriteString(s[:i])
		s = s[i+2:]
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return "", errors.New("${ without its }; write $${ for a literal one")
		}
		v, err := sc.lookup(s[:end])
		if err != nil {
			return "", err
		}
		out.WriteString(v)
		s = s[end+1:]
	}
}

// lookup returns the value of one reference: vars.domain.
func (sc *scope) lookup(ref string) (string, error) {
	kind, name, _ := strings.Cut(ref, ".")
	switch kind {
	case "vars":
		if name == "" {
			break
		}
		if sc.env.vars == nil {
			return "", fmt.Errorf("${%s}: a variable cannot refer to another", ref)
		}
		if v, ok := sc.env.vars[name]; ok {
			return v, nil
		}
		return "", fmt.Errorf("unknown variable ${%s}%s", ref, didYouMean(name, slices.Sorted(maps.Keys(sc.env.vars))))
	case "env":
		if name == "" {
			break
		}
		if v, ok := sc.env.lookupEnv(name); ok {
			return v, nil
		}
		return "", fmt.Errorf("${%s}: the environment variable %s is not set", ref, name)
	case "host":
		if slices.Contains(hostParts, name) {
			return sc.env.hostPart(name)
		}
	case "each":
		if name != "key" && name != "value" {
			break
		}
		if sc.each == nil {
			return "", fmt.Errorf("${%s} has a value only in a certificate with forEach", ref)
		}
		if name == "key" {
			return sc.each.key, nil
		}
		return sc.each.value, nil
	case "certificate":
		if name != "name" {
			break
		}
		if sc.name == "" {
			return "", fmt.Errorf("${%s} has a value only in a certificate", ref)
		}
		return sc.name, nil
	}
	known := []string{"host.name", "host.fqdn", "host.ip", "each.key", "each.value", "certificate.name"}
	for v := range sc.env.vars {
		known = append(known, "vars."+v)
	}
	slices.Sort(known[6:])
	return "", fmt.Errorf("unknown reference ${%s}%s", ref, didYouMean(ref, known))
}

// perCertificate tells whether a value differs between certificates, because
// it refers to ${certificate.…} or ${each.…}.
func (d *loader) perCertificate(n *yaml.Node, depth int) bool {
	d.visits++
	if n = deref(n); n.Kind == yaml.ScalarNode {
		return strings.Contains(n.Value, "${certificate.") || strings.Contains(n.Value, "${each.")
	}
	if depth > maxDepth || d.visits > d.maxVisits() {
		return false
	}
	return slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return d.perCertificate(c, depth+1) })
}

var hostParts = []string{"name", "fqdn", "ip"}

func (e *environment) hostPart(part string) (string, error) {
	if v, ok := e.hostCache[part]; ok {
		return v, nil
	}
	v, err := e.host(part)
	if err == nil && v == "" {
		err = errors.New("unknown on this host")
	}
	if err != nil {
		return "", fmt.Errorf("${host.%s}: %w", part, err)
	}
	e.hostCache[part] = v
	return v, nil
}

// thisHost asks the operating system. It may take a name server, which gets
// two seconds.
func thisHost(part string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	switch part {
	case "ip":
		return hostIP(ctx)
	case "name":
		name, err := os.Hostname()
		short, _, _ := strings.Cut(name, ".")
		return short, err
	}
	name, err := os.Hostname()
	if err != nil || strings.Contains(name, ".") {
		return name, err
	}
	var r net.Resolver
	addrs, _ := r.LookupHost(ctx, name)
	for _, addr := range addrs {
		names, _ := r.LookupAddr(ctx, addr)
		for _, n := range names {
			if n = strings.TrimSuffix(n, "."); strings.HasPrefix(n, name+".") {
				return n, nil
			}
		}
	}
	if cname, err := r.LookupCNAME(ctx, name); err == nil {
		if cname = strings.TrimSuffix(cname, "."); strings.Contains(cname, ".") {
			return cname, nil
		}
	}
	return "", fmt.Errorf("neither %s nor its addresses have a name with a domain", name)
}

// hostIP returns the address that connections to the outside come from.
func hostIP(ctx context.Context) (string, error) {
	// Connecting a datagram socket chooses the route and sends nothing; the
	// addresses are reserved for documentation (RFC 5737, RFC 3849).
	for _, outside := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "udp", outside)
		if err != nil {
			continue
		}
		addr, _ := conn.LocalAddr().(*net.UDPAddr)
		conn.Close()
		if addr != nil && !addr.IP.IsUnspecified() {
			return addr.IP.String(), nil
		}
	}
	return "", errors.New("no route to the outside")
}
