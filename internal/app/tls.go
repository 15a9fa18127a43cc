package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/klive-media/klive/internal/config"
)

// controlTLS reads the certificates of the control listeners; nil without any.
func controlTLS(c config.ControlTLS) (*tls.Config, error) {
	if !c.Enabled() {
		return nil, nil
	}
	t, err := serverTLS("control.tls", c.Cert, c.Key)
	if err != nil || c.ClientCA == "" {
		return t, err
	}
	pem, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("read control.tls.client_ca: %w", err)
	}
	t.ClientCAs = x509.NewCertPool()
	if !t.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("control.tls.client_ca: %s holds no certificate in PEM form", c.ClientCA)
	}
	t.ClientAuth = tls.VerifyClientCertIfGiven // a bearer token is as good; the authenticator decides
	return t, nil
}

func serverTLS(key, certFile, keyFile string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}
