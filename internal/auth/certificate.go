package auth

import (
	"crypto/tls"
	"crypto/x509"
)

// Certificates gives roles to client certificates that the TLS layer has
// verified. A certificate that no row names has the role Admin: whoever runs
// the certificate authority decides whom to give one.
type Certificates struct {
	// Roles by the certificate's common name, or one of its DNS names, e-mail
	// addresses or URIs. None shuts a certificate out.
	Roles map[string]Role
}

// Verify returns the principal of a connection; false when it brought no
// verified certificate.
func (c Certificates) Verify(state *tls.ConnectionState) (Principal, bool) {
	if state == nil || len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return Principal{}, false
	}
	leaf := state.PeerCertificates[0]
	p := Principal{Name: leaf.Subject.CommonName, Role: Admin, Method: "certificate"}
	for _, name := range namesOf(leaf) {
		if p.Name == "" {
			p.Name = name
		}
		if role, ok := c.Roles[name]; ok {
			p.Name, p.Role = name, role
			break
		}
	}
	return p, true
}

// namesOf lists what a certificate may be called by, the common name first.
func namesOf(leaf *x509.Certificate) []string {
	names := make([]string, 0, 1+len(leaf.DNSNames)+len(leaf.EmailAddresses)+len(leaf.URIs))
	if leaf.Subject.CommonName != "" {
		names = append(names, leaf.Subject.CommonName)
	}
	names = append(names, leaf.DNSNames...)
	names = append(names, leaf.EmailAddresses...)
	for _, uri := range leaf.URIs {
		names = append(names, uri.String())
	}
	return names
}
