package spec

// The tables of fields: the language's vocabulary in one place. A field's doc is
// its description in the JSON Schema, and what the reference must say.

const notSupported = "is not supported by this version"

// APIVersion is what a spec states as its apiVersion.
const APIVersion = "certsync/v1"

const (
	namePattern = `^[A-Za-z0-9][A-Za-z0-9._-]*$`
	// A certificate's name may hold ${each.key} as well.
	certificateNamePattern = `^[A-Za-z0-9$][A-Za-z0-9._${}-]*$`
)

var specTable = newTable("a spec", []field[*loader]{
	{name: "apiVersion", required: true, hint: "write apiVersion: " + APIVersion, doc: "Version of the language: certsync/v1.",
		shape:  shape{schema: schema{"const": APIVersion}},
		decode: func(d *loader, v value, _ *loader) { d.apiVersion(v) }},
	{name: "vars", nullable: true, doc: "Variables for ${vars.NAME}; --set NAME=VALUE overrides them.",
		shape:  mapOf(shape{schema: schema{"type": []string{"string", "number", "boolean"}}}, namePattern),
		decode: func(d *loader, v value, _ *loader) { d.collect(v, d.vars) }},
	{name: "defaults", nullable: true, doc: "Fields under every certificate, in all files; not under CAs.",
		shape:  orNull(defaultsTable.shape()),
		decode: func(d *loader, v value, _ *loader) { d.collect(v, d.defaults) }},
	{name: "profiles", nullable: true, doc: "Named sets of a certificate's fields; server, client and peer are built in.",
		shape:  mapOf(profileTable.shape(), namePattern),
		decode: func(d *loader, v value, _ *loader) { d.collect(v, d.profiles) }},
	{name: "clusters", nullable: true, doc: "Kubernetes clusters, by name, where the defaults of kubectl do not do.",
		shape:  mapOf(orNull(clusterTable.shape()), namePattern),
		decode: func(d *loader, v value, _ *loader) { d.collect(v, d.clusters) }},
	{name: "issuers", nullable: true, doc: "Everything that signs, by name.",
		shape:  mapOf(issuerTable.shape(), namePattern),
		decode: func(d *loader, v value, _ *loader) { d.collect(v, d.issuers) }},
	{name: "certificates", nullable: true, doc: "The wanted certificates, by name.",
		shape:  mapOf(certificateTable.shape(), certificateNamePattern),
		decode: func(d *loader, v value, _ *loader) { d.certificates = append(d.certificates, batch{value: v}) }},
})

var issuerTable = newTable("an issuer", []field[*issuer]{
	{name: "ca", doc: "A CA that this spec owns: a certificate's fields, and those of CAs.",
		shape:  caTable.shape(),
		decode: func(d *loader, v value, t *issuer) { d.ca(v, t) }},
	{name: "kubernetes", doc: "A signer of a Kubernetes cluster, asked with certificate signing requests.",
		shape:  kubernetesTable.shape(),
		decode: func(d *loader, v value, t *issuer) { d.kubernetes(v, t) }},
	{name: "acme", refused: notSupported},
	{name: "cfssl", refused: notSupported},
	{name: "vault", refused: notSupported},
	{name: "exec", refused: notSupported},
})

var (
	defaultsTable    = newTable(string(inDefaults), certificateFields)
	profileTable     = newTable(string(inProfile), certificateFields)
	caTable          = newTable(string(inCA), certificateFields)
	certificateTable = newTable(string(inCertificate), certificateFields)
)

var certificateFields = []field[*draft]{
	{name: "forEach", in: []place{inCertificate},
		doc:    "A mapping or a list: one certificate for each item, with ${each.key} and ${each.value}.",
		shape:  forEachShape,
		decode: func(*loader, value, *draft) {}}, // read before the certificate
	{name: "profile", in: []place{inCertificate, inDefaults},
		doc:    "Name of the profile whose fields stand under the certificate's own.",
		shape:  stringShape,
		decode: func(*loader, value, *draft) {}}, // read before the certificate
	{name: "issuer",
		doc:    "Name of the issuer that signs; a CA without one signs itself.",
		shape:  stringShape,
		decode: func(d *loader, v value, c *draft) { setWord(d, v, &c.Issuer) }},
	{name: "commonName",
		doc:    "Common name of the subject, at most 64 characters; TLS clients ignore it.",
		shape:  stringShape,
		decode: func(d *loader, v value, c *draft) { c.CommonName = d.subjectText(v, 64) }},
	{name: "subject", doc: "The subject's other attributes.",
		shape: subjectTable.shape(), decode: (*loader).subject},
	{name: "dnsNames", doc: "DNS names, internationalized ones too; a leading *. is a wildcard.",
		shape: stringsShape, decode: (*loader).dnsNames},
	{name: "ipAddresses", doc: "IPv4 and IPv6 addresses.",
		shape: stringsShape, decode: (*loader).ipAddresses},
	{name: "uris", doc: "Absolute URIs, such as SPIFFE IDs.",
		shape: stringsShape, decode: (*loader).uris},
	{name: "emailAddresses", doc: "E-mail addresses.",
		shape: stringsShape, decode: (*loader).emailAddresses},
	{name: "usages", doc: "Key usages and extended key usages; they replace the profile's.",
		shape: listOf(enumShape(usageNames())), decode: (*loader).usages},
	{name: "privateKey", doc: "The private key.",
		shape: privateKeyTable.shape(), decode: (*loader).privateKey},
	{name: "duration", doc: "Lifetime from now to notAfter: 90d by default, 10y for a CA.",
		shape: durationShape(""), decode: (*loader).duration},
	{name: "renewBefore", doc: "How long before notAfter to renew, or a percentage of the lifetime; one third by default.",
		shape: durationShape(`|\d+(\.\d+)?%`), decode: (*loader).renewBefore},
	{name: "files", doc: "The files to write, each a path or a mapping.",
		shape: filesTable.shape(), decode: (*loader).files},
	{name: "directory", doc: "A directory with tls.crt, tls.key and ca.crt that change as one.",
		shape: targetShape, decode: (*loader).directory},
	{name: "pkcs12", doc: "A PKCS#12 file with the key, the chain and the trust anchor, for browsers and Java.",
		shape: pkcs12Table.shape(), decode: (*loader).pkcs12},
	{name: "jks", doc: "A Java keystore of the old format JKS, with the same contents.",
		shape: jksTable.shape(), decode: (*loader).jks},
	{name: "kubeconfig", in: []place{inDefaults, inProfile, inCertificate},
		doc:   "A kubeconfig for a Kubernetes cluster, with the key and the chain or their paths.",
		shape: kubeconfigTable.shape(), decode: (*loader).kubeconfig},
	{name: "pathLen", in: []place{inCA}, doc: "How many CAs may follow below this one; unlimited by default.",
		shape: scalarShape(schema{"type": []string{"integer", "string"}, "minimum": 0, "pattern": `^\d+$`}), decode: (*loader).pathLen},
	{name: "nameConstraints", in: []place{inCA}, doc: "Limits on the names below the CA.",
		shape: nameConstraintsTable.shape(), decode: (*loader).nameConstraints},
	{name: "onChange", refused: notSupported},
	{name: "probe", refused: notSupported},
	{name: "secret", doc: "A Secret of the type kubernetes.io/tls with tls.crt, tls.key and ca.crt, or a list of them.",
		shape:  oneOrMore(secretTable.shape()),
		decode: func(d *loader, v value, c *draft) { c.secrets = d.objects(v, KindSecret) }},
	{name: "configMap", in: []place{inCA}, doc: "A ConfigMap with the CA's certificate, or a list of them.",
		shape:  oneOrMore(configMapTable.shape()),
		decode: func(d *loader, v value, c *draft) { c.configMaps = d.objects(v, KindConfigMap) }},
}

var subjectTable = newTable("a subject", []field[*draft]{
	{name: "countries", doc: "Countries, as two letters each.", shape: listOf(scalarShape(schema{"type": "string", "pattern": "^[A-Za-z]{2}$"})),
		decode: func(d *loader, v value, c *draft) { c.Subject.Countries = d.countries(v) }},
	{name: "provinces", doc: "States or provinces.", shape: stringsShape,
		decode: func(d *loader, v value, c *draft) { c.Subject.Provinces = d.subjectTexts(v, 128) }},
	{name: "localities", doc: "Cities.", shape: stringsShape,
		decode: func(d *loader, v value, c *draft) { c.Subject.Localities = d.subjectTexts(v, 128) }},
	{name: "streetAddresses", doc: "Street addresses.", shape: stringsShape,
		decode: func(d *loader, v value, c *draft) { c.Subject.StreetAddresses = d.subjectTexts(v, 128) }},
	{name: "postalCodes", doc: "Postal codes.", shape: stringsShape,
		decode: func(d *loader, v value, c *draft) { c.Subject.PostalCodes = d.subjectTexts(v, 40) }},
	{name: "organizations", doc: "Organizations; Kubernetes reads them as a client's groups.", shape: stringsShape,
		decode: func(d *loader, v value, c *draft) { c.Subject.Organizations = d.subjectTexts(v, 64) }},
	{name: "organizationalUnits", doc: "Organizational units.", shape: stringsShape,
		decode: func(d *loader, v value, c *draft) { c.Subject.OrganizationalUnits = d.subjectTexts(v, 64) }},
	{name: "serialNumber", doc: "Serial number of the subject; not the certificate's.", shape: stringShape,
		decode: func(d *loader, v value, c *draft) { c.Subject.SerialNumber = d.printable(v, 64) }},
	{name: "emailAddress", doc: "The legacy attribute emailAddress, as openssl req asks for it.", shape: stringShape,
		decode: func(d *loader, v value, c *draft) { c.Subject.EmailAddress = d.subjectEmail(v) }},
}).under("subject")

var privateKeyTable = newTable("a private key", []field[*draft]{
	{name: "algorithm", doc: "RSA, ECDSA (the default) or Ed25519.",
		shape: enumShape(algorithms), decode: (*loader).algorithm},
	{name: "size", doc: "RSA: 2048 (the default), 3072 or 4096 bits; ECDSA: 256 (the default), 384 or 521.",
		shape: scalarShape(schema{"enum": []any{256, 384, 521, 2048, 3072, 4096, "256", "384", "521", "2048", "3072", "4096"}}), decode: (*loader).keySize},
	{name: "encoding", doc: "PKCS8 (the default), PKCS1 for RSA or SEC1 for ECDSA.",
		shape: enumShape(encodings), decode: (*loader).encoding},
	{name: "rotationPolicy", doc: "Always: a new certificate has a new key; Never: it keeps the key. A CA's default is Never.",
		shape: enumShape([]RotationPolicy{RotateAlways, RotateNever}),
		decode: func(d *loader, v value, c *draft) {
			if p, ok := choice(d, v, []RotationPolicy{RotateAlways, RotateNever}); ok {
				c.PrivateKey.RotationPolicy = p
			}
		}},
	{name: "passwordFile", doc: "File with the password that encrypts the key.",
		shape: stringShape, decode: (*loader).passwordFile},
	{name: "passwordEnv", doc: "Environment variable with the password that encrypts the key.",
		shape: stringShape, decode: (*loader).passwordEnv},
	{name: "password", refused: "a spec holds no secrets", hint: "use passwordFile or passwordEnv"},
	{name: "key", refused: "a spec holds no secrets", hint: "an existing key is adopted from the path that files.privateKey states"},
}).under("privateKey")

var filesTable = newTable("files", []field[*draft]{
	{name: "certificate", doc: "The certificate alone.", shape: targetShape, decode: output(FormCertificate)},
	{name: "chain", doc: "The intermediate CAs alone.", shape: targetShape, decode: output(FormChain)},
	{name: "fullChain", doc: "The certificate, then the intermediate CAs.", shape: targetShape, decode: output(FormFullChain)},
	{name: "privateKey", doc: "The private key.", shape: targetShape, decode: output(FormPrivateKey)},
	{name: "ca", doc: "The trust anchor.", shape: targetShape, decode: output(FormCA)},
	{name: "combined", doc: "The private key, then the full chain.", shape: targetShape, decode: output(FormCombined)},
}).under("files")

var targetTable = newTable("a file", targetFields(func(t *target) *target { return t }, (*loader).path,
	`Permissions in octal, quoted: "0640"; by default "0644", and "0600" for a file with a private key.`))

// targetFields are the fields that all outputs have. path decodes the path of one.
func targetFields[T any](of func(T) *target, path func(*loader, value) string, modeDoc string) []field[T] {
	return []field[T]{
		{name: "path", required: true, doc: "The path; a relative one starts at the file that states it.", shape: stringShape,
			decode: func(d *loader, v value, t T) { of(t).path = path(d, v) }},
		{name: "mode", doc: modeDoc,
			shape:  scalarShape(schema{"type": "string", "pattern": "^0?[0-7]{3}$"}),
			decode: func(d *loader, v value, t T) { of(t).mode = d.mode(v) }},
		{name: "owner", doc: "Owner, a name or a number.", shape: stringShape,
			decode: func(d *loader, v value, t T) { of(t).owner = d.account(v) }},
		{name: "group", doc: "Group, a name or a number.", shape: stringShape,
			decode: func(d *loader, v value, t T) { of(t).group = d.account(v) }},
	}
}

const privateModeDoc = `Permissions in octal, quoted; "0600" by default.`

// The fields of a keystore: those of a file, then its own.
var (
	pkcs12Table = newTable("a PKCS#12 file", append(keystoreFields[:len(keystoreFields):len(keystoreFields)],
		field[*keystoreTarget]{name: "profile", doc: "How it is encrypted: Modern2023 (the default), Modern2026, or LegacyDES, LegacyRC2 and Passwordless for old importers.",
			shape: enumShape(profiles),
			decode: func(d *loader, v value, t *keystoreTarget) {
				if p, ok := choice(d, v, profiles); ok {
					t.Profile = p
				}
			}}))
	jksTable = newTable("a Java keystore", keystoreFields)
)

var keystoreFields = append(targetFields(func(t *keystoreTarget) *target { return &t.target }, (*loader).filePath, privateModeDoc),
	[]field[*keystoreTarget]{
		{name: "passwordFile", doc: "File with the password; one newline at its end is not part of it.", shape: stringShape,
			decode: (*loader).keystorePasswordFile},
		{name: "passwordEnv", doc: "Environment variable with the password.", shape: stringShape,
			decode: (*loader).keystorePasswordEnv},
		{name: "password", refused: "a spec holds no secrets", hint: "use passwordFile or passwordEnv"},
		{name: "alias", doc: "Name of the entry with the key, its friendly name; the certificate's name by default.", shape: stringShape,
			decode: func(d *loader, v value, t *keystoreTarget) { t.Alias = d.alias(v) }},
	}...)

var kubeconfigTable = newTable("a kubeconfig", append(targetFields(func(t *kubeconfigTarget) *target { return &t.target }, (*loader).filePath, privateModeDoc),
	[]field[*kubeconfigTarget]{
		{name: "server", required: true, hint: `write server: "https://10.0.0.1:6443"`, doc: "The apiserver's URL: https://HOST:PORT.", shape: stringShape,
			decode: func(d *loader, v value, t *kubeconfigTarget) { t.Server = d.serverURL(v) }},
		{name: "namespace", doc: "Namespace of requests that state none.", shape: stringShape,
			decode: func(d *loader, v value, t *kubeconfigTarget) { t.Namespace = d.namespace(v) }},
		{name: "cluster", doc: "Name of the cluster in the file; kubernetes by default.", shape: stringShape,
			decode: func(d *loader, v value, t *kubeconfigTarget) { t.Cluster = d.entryName(v, "a name") }},
		{name: "user", doc: "Name of the user in the file; the commonName by default.", shape: stringShape,
			decode: func(d *loader, v value, t *kubeconfigTarget) { t.User = d.entryName(v, "a name") }},
		{name: "context", doc: "Name of the context in the file; USER@CLUSTER by default.", shape: stringShape,
			decode: func(d *loader, v value, t *kubeconfigTarget) { t.Context = d.entryName(v, "a name") }},
		{name: "ca", doc: "File with the CA of the apiserver, in PEM; the certificate's own trust anchor by default.", shape: stringShape,
			decode: func(d *loader, v value, t *kubeconfigTarget) { t.CA = d.filePath(v) }},
		{name: "tlsServerName", doc: "The name that the apiserver's certificate must have, if it is not the URL's.", shape: stringShape,
			decode: func(d *loader, v value, t *kubeconfigTarget) { t.TLSServerName = d.tlsServerName(v) }},
		{name: "proxyURL", doc: "Proxy to the apiserver: http, https or socks5.", shape: stringShape,
			decode: func(d *loader, v value, t *kubeconfigTarget) { t.ProxyURL = d.proxyURL(v) }},
		{name: "embed", doc: "true, the default: key and certificate are in the file; false: it names the files that hold them.",
			shape: scalarShape(schema{"enum": []any{true, false, "true", "false"}}),
			decode: func(d *loader, v value, t *kubeconfigTarget) {
				if b, ok := d.boolean(v); ok {
					t.byPath = !b
				}
			}},
	}...))

var targetShape = shape{
	schema: schema{"anyOf": []schema{stringShape.schema, targetTable.shape().schema}},
	fields: targetTable.shape().fields,
}

var nameConstraintsTable = newTable("name constraints", []field[*NameConstraints]{
	{name: "critical", doc: "Whether software that does not know name constraints must refuse the CA; true by default.",
		shape: scalarShape(schema{"enum": []any{true, false, "true", "false"}}),
		decode: func(d *loader, v value, n *NameConstraints) {
			if b, ok := d.boolean(v); ok {
				n.Critical = b
			}
		}},
	{name: "permitted", doc: "Names outside of these are refused.", shape: namesTable.shape(),
		decode: func(d *loader, v value, n *NameConstraints) { namesTable.decode(d, v, &n.Permitted) }},
	{name: "excluded", doc: "Names within these are refused.", shape: namesTable.shape(),
		decode: func(d *loader, v value, n *NameConstraints) { namesTable.decode(d, v, &n.Excluded) }},
})

var namesTable = newTable("names", []field[*Names]{
	{name: "dnsDomains", doc: "DNS domains; a leading dot asks for a subdomain.", shape: stringsShape,
		decode: func(d *loader, v value, n *Names) { n.DNSDomains = d.domains(v) }},
	{name: "ipRanges", doc: "Ranges of IP addresses, as 10.0.0.0/8.", shape: stringsShape,
		decode: func(d *loader, v value, n *Names) { n.IPRanges = d.ipRanges(v) }},
	{name: "emailAddresses", doc: "Mailboxes, hosts, or domains with a leading dot.", shape: stringsShape,
		decode: func(d *loader, v value, n *Names) { n.EmailAddresses = d.emailConstraints(v) }},
	{name: "uriDomains", doc: "Hosts of URIs, or domains with a leading dot.", shape: stringsShape,
		decode: func(d *loader, v value, n *Names) { n.URIDomains = d.domains(v) }},
})

var forEachShape = shape{schema: schema{"anyOf": []schema{
	{"type": "object", "additionalProperties": schema{"type": []string{"string", "number", "boolean"}}},
	{"type": "array", "items": schema{"type": []string{"string", "number", "boolean"}}},
}}}
