package kubernetes

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	certificates "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// Cluster is a Kubernetes cluster and the credentials to it. Its methods may be
// called concurrently.
type Cluster struct {
	title   string // how messages call it
	host    string
	kubectl string // the command kubectl, with the flags that lead to this cluster
	client  rest.Interface
	config  *rest.Config
	codec   runtime.ParameterCodec

	mu    sync.Mutex
	down  error     // why it could not be reached
	until time.Time // when that is tried again
}

var quiet sync.Once

// Open reads how a cluster is reached, without connecting to it. Without a cluster
// it is what kubectl would use, or else the service account of the pod.
func Open(c *spec.Cluster) (*Cluster, error) {
	quiet.Do(func() {
		// What client-go has to say is in the errors that it returns.
		klog.LogToStderr(false)
		klog.SetOutput(io.Discard)
	})
	if c == nil {
		c = &spec.Cluster{}
	}
	title := "the default cluster"
	if c.Name != "" {
		title = fmt.Sprintf("cluster %q", c.Name)
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	rules.WarnIfAllMissing = false
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: c.Context}).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, hinted{fmt.Errorf("%s: there is no kubeconfig", title),
			"set KUBECONFIG, or state kubeconfig under clusters"}
	case err != nil:
		return nil, fmt.Errorf("%s: %w", title, err)
	}
	// The server's priority and fairness is what limits; by default client-go would
	// ask five times a second.
	config.QPS, config.RateLimiter = -1, nil
	config.UserAgent = "certsync"
	config.WarningHandler = rest.NoWarnings{}
	scheme := runtime.NewScheme()
	if err := certificates.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("%s: %w", title, err)
	}
	metav1.AddToGroupVersion(scheme, certificates.SchemeGroupVersion)
	config.GroupVersion = &certificates.SchemeGroupVersion
	config.APIPath = "/apis"
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", title, err)
	}
	host := config.Host
	if u, err := url.Parse(host); err == nil {
		host = u.Redacted() // it may have a password
	}
	return &Cluster{title: title, host: host, kubectl: kubectl(c), client: client, config: config,
		codec: runtime.NewParameterCodec(scheme)}, nil
}

// kubectl returns the command that talks to the cluster.
func kubectl(c *spec.Cluster) string {
	words := []string{"kubectl"}
	if c.Kubeconfig != "" {
		words = append(words, "--kubeconfig", quoted(c.Kubeconfig))
	}
	if c.Context != "" {
		words = append(words, "--context", quoted(c.Context))
	}
	return strings.Join(words, " ")
}

// quoted returns a word as a shell takes it.
func quoted(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@=+,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// CA returns the CAs that the cluster's own certificates chain to, as the
// kubeconfig or the service account has them.
func (c *Cluster) CA() ([]*x509.Certificate, error) {
	data := c.config.CAData
	if len(data) == 0 && c.config.CAFile != "" {
		var err error
		if data, err = os.ReadFile(c.config.CAFile); err != nil {
			return nil, fmt.Errorf("%s: its CA: %w", c.title, err)
		}
	}
	if len(data) == 0 {
		return nil, hinted{fmt.Errorf("%s: the kubeconfig states no CA", c.title), "state ca: FILE, for the issuer or for the kubeconfig that is written"}
	}
	certs, err := pki.ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: its CA: %w", c.title, err)
	}
	return certs, nil
}

// callWithin bounds one call, connecting included; what could not be reached is not
// tried again for downFor.
const (
	callWithin = 10 * time.Second
	endWithin  = time.Second // for a call whose time is up
	downFor    = 10 * time.Second
)

// reachable returns why the cluster is not, if that was found out just now: many
// requests are not to wait one after the other for what is not there.
func (c *Cluster) reachable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != nil && time.Now().Before(c.until) {
		return c.down
	}
	return nil
}

func (c *Cluster) unreachable(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down, c.until = err, time.Now().Add(downFor)
}

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint returns how to mend it.
func (h hinted) Hint() string { return h.hint }

var errForeign = errors.New("there is another request of that name")
