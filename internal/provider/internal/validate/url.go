package validate

import (
	"errors"
	"net/url"
	"strings"
)

// URL says what is wrong with s as the URL of an HTTP service. Its error doesn't contain s, which may have credentials.
func URL(s string) error {
	if lower := strings.ToLower(s); !strings.HasPrefix(lower, "http://") && !strings.HasPrefix(lower, "https://") {
		return errors.New("it must begin with http:// or https://")
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("it is not a URL")
	case u.Hostname() == "":
		return errors.New("it has no host")
	case u.User != nil:
		return errors.New("it must not contain credentials, which have their own attributes")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("it must have no query and no fragment")
	}
	return nil
}
