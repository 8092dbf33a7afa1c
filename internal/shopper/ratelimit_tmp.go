package shopper

import "errors"

// IsRateLimited is replaced by the client's own.
func IsRateLimited(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == 429
}
