package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	certificates "k8s.io/api/certificates/v1"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const requestsResource = "certificatesigningrequests"

// workers are how many requests are under way at once.
const workers = 8

// requests has a cluster sign n certificates into dir: requested, approved, watched,
// written and removed, with the calls that certsync makes.
func requests(kubeconfig, dir string, n int) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := certificates.AddToScheme(scheme); err != nil {
		return err
	}
	metav1.AddToGroupVersion(scheme, certificates.SchemeGroupVersion)
	config.GroupVersion, config.APIPath, config.QPS = &certificates.SchemeGroupVersion, "/apis", -1
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return err
	}
	codec := runtime.NewParameterCodec(scheme)
	group, ctx := errgroup.WithContext(context.Background())
	group.SetLimit(workers)
	for i := range n {
		group.Go(func() error { return request(ctx, client, codec, dir, i) })
	}
	return group.Wait()
}

func request(ctx context.Context, client rest.Interface, codec runtime.ParameterCodec, dir string, i int) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: fmt.Sprint("user-", i)}}, key)
	if err != nil {
		return err
	}
	day := int32(24 * 3600)
	csr, approved := &certificates.CertificateSigningRequest{}, &certificates.CertificateSigningRequest{}
	err = client.Post().Resource(requestsResource).Body(&certificates.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("floor-%d-%d", time.Now().UnixNano(), i)},
		Spec: certificates.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: certificates.KubeAPIServerClientSignerName, ExpirationSeconds: &day,
			Usages: []certificates.KeyUsage{certificates.UsageDigitalSignature, certificates.UsageClientAuth},
		},
	}).Do(ctx).Into(csr)
	if err != nil {
		return err
	}
	csr.Status.Conditions = append(csr.Status.Conditions, certificates.CertificateSigningRequestCondition{
		Type: certificates.CertificateApproved, Status: core.ConditionTrue, Reason: "Floor"})
	err = client.Put().Resource(requestsResource).Name(csr.Name).SubResource("approval").Body(csr).Do(ctx).Into(approved)
	if err != nil {
		return err
	}
	watch, err := client.Get().Resource(requestsResource).VersionedParams(&metav1.ListOptions{
		Watch: true, FieldSelector: "metadata.name=" + csr.Name, ResourceVersion: approved.ResourceVersion}, codec).Watch(ctx)
	if err != nil {
		return err
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		signed, ok := event.Object.(*certificates.CertificateSigningRequest)
		if !ok || len(signed.Status.Certificate) == 0 {
			continue
		}
		block, _ := pem.Decode(signed.Status.Certificate)
		if err := write(filepath.Join(dir, fmt.Sprint("user-", i)), block.Bytes, key); err != nil {
			return err
		}
		return client.Delete().Resource(requestsResource).Name(csr.Name).Do(ctx).Error()
	}
	return errors.New("the watch ended")
}
