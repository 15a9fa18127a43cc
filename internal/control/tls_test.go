package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
)

// authority signs certificates for one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t}
	a.key = a.newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	return key
}

// issue makes a certificate for server or client.
func (a *authority) issue(name string) tls.Certificate {
	key := a.newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestClientCertificates(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	o := newHouse().options()
	o.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{ours.issue("server")},
		ClientCAs: roots, ClientAuth: tls.VerifyClientCertIfGiven,
	}
	o.Authenticator = twoTokens(t)
	o.Authenticator.Certificates = &auth.Certificates{Roles: map[string]auth.Role{"wall": auth.Viewer}}
	s := start(t, o)

	create := func(pair *tls.Certificate) error {
		client := &tls.Config{RootCAs: roots}
		if pair != nil {
			client.Certificates = []tls.Certificate{*pair}
		}
		conn := dial(t, s, grpc.WithTransportCredentials(credentials.NewTLS(client)))
		_, err := klivev1.NewStreamServiceClient(conn).CreateStream(t.Context(), &klivev1.CreateStreamRequest{StreamId: rand.Text()})
		return err
	}
	read := func(pair *tls.Certificate, path string) (int, error) {
		client := &tls.Config{RootCAs: roots}
		if pair != nil {
			client.Certificates = []tls.Certificate{*pair}
		}
		transport := &http.Transport{TLSClientConfig: client, DisableKeepAlives: true, ForceAttemptHTTP2: true}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.HTTPAddr().String()+path, nil)
		require.NoError(t, err)
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			return 0, err
		}
		require.Equal(t, 2, response.ProtoMajor)
		return response.StatusCode, response.Body.Close()
	}

	admin, viewer, stranger := ours.issue("ops"), ours.issue("wall"), theirs.issue("ops")
	require.NoError(t, create(&admin))
	requireFault(t, create(&viewer), codes.PermissionDenied, fault.NotAllowed)
	requireFault(t, create(nil), codes.Unauthenticated, fault.NotAuthenticated)
	// A certificate of another authority does not even finish the handshake, or
	// is not sent at all.
	require.Error(t, create(&stranger))

	for _, c := range []struct {
		pair *tls.Certificate
		path string
		want int
	}{
		{&admin, "/v1/streams", 200}, {&viewer, "/v1/streams", 200}, {nil, "/v1/streams", 401},
		{&admin, "/v1/streams/x:publishAddresses", 404}, {&viewer, "/v1/streams/x:publishAddresses", 403},
	} {
		got, err := read(c.pair, c.path)
		require.NoError(t, err)
		require.Equal(t, c.want, got, c.path)
	}
}
