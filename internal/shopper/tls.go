package shopper

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// newTLSConfig trusts the configured authority in addition to the system's, so that a public certificate is still accepted.
func newTLSConfig(cfg Config) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CACertificate != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM([]byte(cfg.CACertificate)) {
			return nil, errors.New("the CA certificate contains no certificate in PEM form")
		}
		config.RootCAs = pool
	}
	switch {
	case cfg.ClientCertificate == "" && cfg.ClientKey == "":
		return config, nil
	case cfg.ClientCertificate == "" || cfg.ClientKey == "":
		return nil, errors.New("the client certificate and the client key are required together, but one is missing")
	}
	pair, err := tls.X509KeyPair([]byte(cfg.ClientCertificate), []byte(cfg.ClientKey))
	if err != nil {
		return nil, fmt.Errorf("the client certificate and key are invalid: %w", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}
