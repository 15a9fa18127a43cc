package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"

	"github.com/klive-media/klive/internal/config"
)

// healthClient is an HTTP client that trusts the server's own certificate,
// whatever name it was made for: the check asks the machine it runs on.
func healthClient(c config.Control) *http.Client {
	if !c.TLS.Enabled() {
		return http.DefaultClient
	}
	pool := x509.NewCertPool()
	if pem, err := os.ReadFile(c.TLS.Cert); err == nil {
		pool.AppendCertsFromPEM(pem)
	}
	t := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // the chain is checked below, only the name is not
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		},
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: t}}
}
