package validate

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
)

// Duration returns a validator of durations such as "90s" or "1h30m": multiples of step from least to most. most 0 means no
// limit.
func Duration(least, most, step time.Duration) validator.String {
	return String("must be a duration such as 90s or 1h30m", func(s string) error {
		d, err := time.ParseDuration(s)
		switch {
		case err != nil:
			return errors.New("it is not a duration such as \"90s\" or \"1h30m\"")
		case d < least || most > 0 && d > most:
			return fmt.Errorf("it must be %s", between(least, most))
		case d%step != 0:
			return fmt.Errorf("it must be a whole number of %s", step)
		}
		return nil
	})
}

func between(least, most time.Duration) string {
	switch {
	case least == 0 && most == 0:
		return "at least zero"
	case most == 0:
		return "at least " + least.String()
	}
	return fmt.Sprintf("between %s and %s", least, most)
}

// Span parses a duration that Duration has accepted, 0 for "".
func Span(s string) time.Duration {
	d, _ := time.ParseDuration(s)
	return d
}
