package view

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/certsync/certsync/spec"
)

// graph is the spec's certificates by what signs them.
type graph struct {
	roots    []*spec.Certificate
	remotes  []*spec.Issuer                 // that sign something, and are not in the spec themselves
	children map[string][]*spec.Certificate // by the issuer's name
}

func newGraph(sp *spec.Spec) graph {
	g := graph{children: map[string][]*spec.Certificate{}}
	for c := range sp.All() {
		if c.Issuer == "" {
			g.roots = append(g.roots, c)
		} else {
			g.children[c.Issuer] = append(g.children[c.Issuer], c)
		}
	}
	for _, i := range sp.Issuers {
		if i.Remote() {
			g.remotes = append(g.remotes, i)
		}
	}
	return g
}

// below returns what a certificate signed.
func (g graph) below(c *spec.Certificate) []*spec.Certificate {
	if c.CA == nil {
		return nil
	}
	return g.children[c.Name]
}

// GraphTree writes issuers and certificates as a tree.
func GraphTree(w io.Writer, sp *spec.Spec) error {
	out := bufio.NewWriter(w)
	p := newPainter(w)
	g := newGraph(sp)
	var branch func(c *spec.Certificate, first, rest string)
	branch = func(c *spec.Certificate, first, rest string) {
		name := c.Name
		if c.CA != nil {
			name = p.paint(bold, name)
		}
		fmt.Fprintf(out, "%s%s%s\n", first, name, prefixed("  ", about(c)))
		below := g.below(c)
		for i, child := range below {
			if i < len(below)-1 {
				branch(child, rest+"├── ", rest+"│   ")
			} else {
				branch(child, rest+"└── ", rest+"    ")
			}
		}
	}
	for _, root := range g.roots {
		branch(root, "", "")
	}
	for _, i := range g.remotes {
		fmt.Fprintf(out, "%s%s\n", p.paint(bold, i.Name), prefixed("  ", aboutRemote(i)))
		below := g.children[i.Name]
		for j, child := range below {
			if j < len(below)-1 {
				branch(child, "├── ", "│   ")
			} else {
				branch(child, "└── ", "    ")
			}
		}
	}
	return out.Flush()
}

// about tells in a few words what a certificate is for.
func about(c *spec.Certificate) string {
	var words []string
	switch {
	case c.CA != nil && c.Issuer == "":
		words = append(words, "root CA")
	case c.CA != nil:
		words = append(words, "CA")
	}
	if names := sans(c); len(names) > 0 {
		const most = 3
		if len(names) > most {
			names = append(names[:most:most], fmt.Sprintf("+%d", len(names)-most))
		}
		words = append(words, names...)
	} else if c.CommonName != "" {
		words = append(words, fmt.Sprintf("CN=%s", c.CommonName))
	}
	return printable(strings.Join(words, ", "))
}

// aboutRemote tells who a remote issuer is.
func aboutRemote(i *spec.Issuer) string {
	s := i.Kubernetes.SignerName
	if c := i.Kubernetes.Cluster; c != nil {
		s += " in cluster " + c.Name
	}
	return printable(s)
}

// sans lists the subject alternative names.
func sans(c *spec.Certificate) []string {
	var names []string
	names = append(names, c.DNSNames...)
	for _, a := range c.IPAddresses {
		names = append(names, a.String())
	}
	names = append(names, c.URIs...)
	return append(names, c.EmailAddresses...)
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// GraphDot writes issuers and certificates in the language of Graphviz.
func GraphDot(w io.Writer, sp *spec.Spec) error {
	out := bufio.NewWriter(w)
	fmt.Fprint(out, "digraph certsync {\n  rankdir=LR\n  node [shape=box]\n")
	for c := range sp.All() {
		style := ""
		if c.CA != nil {
			style = ", style=bold"
		}
		fmt.Fprintf(out, "  %s [label=%s%s]\n", dotString(c.ID.String()), dotString(c.Name+prefixed("\n", about(c))), style)
	}
	for _, i := range newGraph(sp).remotes {
		id := spec.ID{Kind: spec.KindIssuer, Name: i.Name}
		fmt.Fprintf(out, "  %s [label=%s, style=dashed]\n", dotString(id.String()), dotString(i.Name+"\n"+aboutRemote(i)))
	}
	for c := range sp.All() {
		if c.Issuer != "" {
			issuer := spec.ID{Kind: spec.KindIssuer, Name: c.Issuer}
			fmt.Fprintf(out, "  %s -> %s\n", dotString(issuer.String()), dotString(c.ID.String()))
		}
	}
	fmt.Fprintln(out, "}")
	return out.Flush()
}

// dotString quotes a string. In a label a backslash starts an escape sequence,
// so it is doubled; \n is one itself.
func dotString(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// GraphMermaid writes issuers and certificates as a flowchart of Mermaid.
func GraphMermaid(w io.Writer, sp *spec.Spec) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, "flowchart LR")
	// Words such as end are no identifiers in Mermaid: numbers are used instead.
	ids := map[spec.ID]string{}
	for c := range sp.All() {
		id := fmt.Sprintf("n%d", len(ids))
		ids[c.ID] = id
		open, shut := "[", "]"
		if c.CA != nil {
			open, shut = "([", "])"
		}
		label := mermaidText(c.Name)
		if s := about(c); s != "" {
			label += "<br>" + mermaidText(s)
		}
		fmt.Fprintf(out, "  %s%s\"%s\"%s\n", id, open, label, shut)
	}
	for _, i := range newGraph(sp).remotes {
		id := fmt.Sprintf("n%d", len(ids))
		ids[spec.ID{Kind: spec.KindIssuer, Name: i.Name}] = id
		fmt.Fprintf(out, "  %s{{\"%s<br>%s\"}}\n", id, mermaidText(i.Name), mermaidText(aboutRemote(i)))
	}
	for c := range sp.All() {
		if c.Issuer != "" {
			fmt.Fprintf(out, "  %s --> %s\n", ids[spec.ID{Kind: spec.KindIssuer, Name: c.Issuer}], ids[c.ID])
		}
	}
	return out.Flush()
}

// mermaidText escapes what Mermaid, or the HTML that it makes, would obey. Its
// entities are those of HTML with # for &.
func mermaidText(s string) string {
	return strings.NewReplacer("#", "#35;", "&", "#amp;", `"`, "#quot;", "<", "#lt;", ">", "#gt;",
		"`", "#96;", `\`, "#92;", "*", "#42;", "_", "#95;", "\n", " ").Replace(s)
}
