package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// client is what the typed clientset is made of; the clientset itself would bring
// modules that nothing else here needs.
func client(kubeconfig string) (*rest.RESTClient, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := core.AddToScheme(scheme); err != nil {
		return nil, err
	}
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	config.APIPath, config.GroupVersion = "/api", &core.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	return rest.RESTClientFor(config)
}

func makeNamespace(kubeconfig, name string) error {
	c, err := client(kubeconfig)
	if err != nil {
		return err
	}
	return c.Post().Resource("namespaces").Body(&core.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}).Do(context.Background()).Error()
}

// createSecrets creates n Secrets of the size of those that certsync makes, all with
// the same pair: the apiserver looks whether key and certificate match.
func createSecrets(kubeconfig, namespace string, n int) error {
	c, err := client(kubeconfig)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "floor-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := apply(dir, 1); err != nil {
		return err
	}
	data := map[string][]byte{}
	for key, file := range map[string]string{"tls.crt": "pki/000/host-000000.crt", "tls.key": "pki/000/host-000000.key", "ca.crt": "ca.crt"} {
		if data[key], err = os.ReadFile(filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	return inParallel(n, func(i int) error {
		return c.Post().Namespace(namespace).Resource("secrets").Body(&core.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Name:   fmt.Sprintf("host-%06d", i),
				Labels: map[string]string{"app.kubernetes.io/managed-by": "floor"},
				Annotations: map[string]string{
					"floor/a": string(bytes.Repeat([]byte("x"), 64)), "floor/b": string(bytes.Repeat([]byte("x"), 64)),
				},
			},
			Type: core.SecretTypeTLS,
			Data: data,
		}).Do(context.Background()).Into(&core.Secret{})
	})
}

// getSecrets reads them again, one by one.
func getSecrets(kubeconfig, namespace string, n int) error {
	c, err := client(kubeconfig)
	if err != nil {
		return err
	}
	return inParallel(n, func(i int) error {
		return c.Get().Namespace(namespace).Resource("secrets").Name(fmt.Sprintf("host-%06d", i)).Do(context.Background()).Into(&core.Secret{})
	})
}

func inParallel(n int, f func(i int) error) error {
	var group errgroup.Group
	group.SetLimit(workers)
	for i := range n {
		group.Go(func() error { return f(i) })
	}
	return group.Wait()
}
