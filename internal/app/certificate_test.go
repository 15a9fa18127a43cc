package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/rtmp"
)

// writeCertificate writes a certificate for the loopback that says name.
func writeCertificate(t *testing.T, dir, name string, at time.Time) (cert, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(secret)
	require.NoError(t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	for _, path := range []string{cert, key} {
		require.NoError(t, os.Chtimes(path, at, at))
	}
	return cert, key
}

// later lets the next handshake look at the files.
func (c *certificate) later() {
	c.mu.Lock()
	c.looked = time.Now().Add(-lookAtFiles)
	c.mu.Unlock()
}

func TestACertificateIsReadAnew(t *testing.T) {
	dir := t.TempDir()
	day := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cert, key := writeCertificate(t, dir, "first", day)
	c, err := newCertificate(cert, key, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	name := func() string {
		pair, err := c.get(nil)
		require.NoError(t, err)
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		require.NoError(t, err)
		return leaf.Subject.CommonName
	}
	require.Equal(t, "first", name())

	writeCertificate(t, dir, "second", day.Add(time.Hour))
	require.Equal(t, "first", name(), "not looked at yet")
	c.later()
	require.Equal(t, "second", name())

	require.NoError(t, os.WriteFile(cert, []byte("half"), 0o600))
	c.later()
	require.Equal(t, "second", name(), "a file that cannot be read changes nothing")
	require.NoError(t, os.Remove(key))
	c.later()
	require.Equal(t, "second", name())
	writeCertificate(t, dir, "third", day.Add(2*time.Hour))
	c.later()
	require.Equal(t, "third", name())

	_, err = newCertificate(filepath.Join(dir, "none.pem"), key, nil)
	require.Error(t, err)
	require.NoError(t, os.WriteFile(cert, []byte("half"), 0o600))
	_, err = newCertificate(cert, key, nil)
	require.ErrorContains(t, err, "read the certificate")
}

func TestRTMPSPublishes(t *testing.T) {
	c := testConfig(t)
	c.RTMP.TLS.Listen = "127.0.0.1:0"
	c.RTMP.TLS.Cert, c.RTMP.TLS.Key = writeCertificate(t, t.TempDir(), "rtmps", time.Now())
	st := start(t, c)
	require.Contains(t, st.output.String(), "rtmps://")
	address := ""
	for _, l := range st.listeners {
		if l.Name == "rtmps" {
			address = l.Address
		}
	}
	require.NotEmpty(t, address)

	_, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}) //nolint:gosec // the server refuses
	require.Error(t, err, "old versions of TLS are refused")
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // signed by itself
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, token, _ := strings.Cut(st.output.String(), "live_1?t=")
	client := rtmp.NewClientConn(conn, rtmp.Options{})
	require.NoError(t, client.Connect(rtmp.Connect{App: "kLive", TcURL: "rtmps://" + address + "/kLive"}))
	require.NoError(t, client.Publish("live_1?t="+token[:26]))
	require.Eventually(t, func() bool {
		list := st.registry.Sessions("live")
		return len(list) == 1 && list[0].Protocol == "rtmps"
	}, 10*time.Second, 5*time.Millisecond)
}
