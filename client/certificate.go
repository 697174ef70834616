package client

import (
	"crypto/tls"
	"fmt"
)

// CertificateFiles is a Config.ClientCertificate that reads a certificate, with its chain, and its key from PEM files at
// every handshake, so that replacing the files is all that a renewal takes. A pair that cannot be read or does not fit
// together fails the handshake, and the next one reads it anew. Safe for concurrent use.
func CertificateFiles(certFile, keyFile string) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("read the client certificate: %w", err)
		}
		return &pair, nil
	}
}
