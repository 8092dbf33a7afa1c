package validate

import (
	"errors"
	"fmt"
	"net/url"
)

// URL says what is wrong with s as the address of an HTTP service.
func URL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("it is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%q must begin with http:// or https://", s)
	case u.Host == "":
		return fmt.Errorf("%q names no host", s)
	case u.User != nil:
		return errors.New("it must not hold credentials, which have attributes of their own")
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q must have no query and no fragment", s)
	}
	return nil
}
