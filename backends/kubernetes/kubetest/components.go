package kubetest

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

func (c *ControlPlane) startEtcd(ctx context.Context, program string) error {
	client, err := c.client("etcd/ca", "etcd/healthcheck-client")
	if err != nil {
		return err
	}
	args := []string{
		"--name=" + Node,
		"--data-dir=" + filepath.Join(c.Dir, "etcd"),
		"--unsafe-no-fsync", // what it stores does not outlive it
		"--initial-cluster=" + Node + "=" + c.EtcdPeerURL,

		"--listen-client-urls=" + c.EtcdURL,
		"--advertise-client-urls=" + c.EtcdURL,
		"--cert-file=" + c.pki("etcd", "server.crt"),
		"--key-file=" + c.pki("etcd", "server.key"),
		"--trusted-ca-file=" + c.pki("etcd", "ca.crt"),
		"--client-cert-auth",

		"--listen-peer-urls=" + c.EtcdPeerURL,
		"--initial-advertise-peer-urls=" + c.EtcdPeerURL,
		"--peer-cert-file=" + c.pki("etcd", "peer.crt"),
		"--peer-key-file=" + c.pki("etcd", "peer.key"),
		"--peer-trusted-ca-file=" + c.pki("etcd", "ca.crt"),
		"--peer-client-cert-auth",
	}
	return c.start(ctx, "etcd", program, args, func(ctx context.Context) error {
		_, err := do(ctx, client, "GET", c.EtcdURL+"/health", "")
		return err
	})
}

func (c *ControlPlane) startAPIServer(ctx context.Context, program string, flags []string) error {
	client, err := c.Client("super-admin")
	if err != nil {
		return err
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(c.URL, "https://"), ":")
	args := []string{
		"--bind-address=127.0.0.1",
		"--secure-port=" + port,
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", // a Service has no endpoint on 127.0.0.1
		"--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file=" + c.pki("apiserver.crt"),
		"--tls-private-key-file=" + c.pki("apiserver.key"),

		"--client-ca-file=" + c.pki("ca.crt"),
		"--anonymous-auth=false", // who shows no certificate gets 401
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",

		"--etcd-servers=" + c.EtcdURL,
		"--etcd-cafile=" + c.pki("etcd", "ca.crt"),
		"--etcd-certfile=" + c.pki("apiserver-etcd-client.crt"),
		"--etcd-keyfile=" + c.pki("apiserver-etcd-client.key"),

		"--kubelet-client-certificate=" + c.pki("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + c.pki("apiserver-kubelet-client.key"),

		"--requestheader-client-ca-file=" + c.pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.pki("front-proxy-client.crt"),
		"--proxy-client-key-file=" + c.pki("front-proxy-client.key"),

		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.pki("sa.crt"),
		"--service-account-signing-key-file=" + c.pki("sa.key"),
	}
	return c.start(ctx, APIServer, program, append(args, flags...), func(ctx context.Context) error {
		_, err := do(ctx, client, "GET", c.URL+"/readyz", "")
		return err
	})
}

// bindRoles gives the administrators and the apiserver itself their rights, as
// kubeadm init does.
func (c *ControlPlane) bindRoles(ctx context.Context) error {
	client, err := c.Client("super-admin")
	if err != nil {
		return err
	}
	for _, b := range []struct{ name, role, kind, subject string }{
		{"kubeadm:cluster-admins", "cluster-admin", "Group", "kubeadm:cluster-admins"},
		{"kubeadm:apiserver-kubelet-client", "system:kubelet-api-admin", "User", "kube-apiserver-kubelet-client"},
	} {
		_, err = do(ctx, client, "POST", c.URL+"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", fmt.Sprintf(`{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": %q},
			"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": %q},
			"subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": %q, "name": %q}]
		}`, b.name, b.role, b.kind, b.subject))
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *ControlPlane) startControllerManager(ctx context.Context, program string, flags []string) error {
	client, err := c.Client("super-admin")
	if err != nil {
		return err
	}
	args := []string{
		"--kubeconfig=" + c.Kubeconfig("controller-manager"),
		"--secure-port=0", // it serves metrics only, with a certificate of its own making
		"--leader-elect=false",
		"--controllers=*,bootstrapsigner,tokencleaner",
		"--use-service-account-credentials",
		"--root-ca-file=" + c.pki("ca.crt"),
		"--cluster-signing-cert-file=" + c.pki("ca.crt"),
		"--cluster-signing-key-file=" + c.pki("ca.key"),
		"--service-account-private-key-file=" + c.pki("sa.key"),
	}
	// Controllers act with tokens of their service accounts. When one of them has
	// made something, tokens can be signed and checked, too.
	return c.start(ctx, ControllerManager, program, append(args, flags...), func(ctx context.Context) error {
		_, err := do(ctx, client, "GET", c.URL+"/api/v1/namespaces/default/serviceaccounts/default", "")
		return err
	})
}
