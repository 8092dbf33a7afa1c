package sandbox

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// value is a rule's value, or its fault's default, in the form that the fault needs.
type value struct {
	length time.Duration
	number float64
	text   string
	answer answer
	outage outage
}

// answer is the value of Status, StatusAfter and HTML.
type answer struct {
	Status     int    `json:"status"`
	RetryAfter any    `json:"retry_after"`
	Error      string `json:"error"`
	After      bool   `json:"after"` // the request takes effect first
}

// outage is how long after the boot SSH is lost, and for how long.
type outage struct{ After, For Duration }

// valueKind is a kind of value, with a default.
type valueKind struct {
	help string // the value and its default; "" where there is none
	// set reads a rule's value into v, which has the default; nil = values are ignored.
	set       func(v *value, given any) error
	otherwise value
	required  bool
}

// read reads a rule's value; nil = it has none.
func (k valueKind) read(given any) (value, error) {
	v := k.otherwise
	if k.set == nil || given == nil && !k.required {
		return v, nil
	}
	err := k.set(&v, given)
	return v, err
}

// lasts is a length of service time.
func lasts(otherwise time.Duration) valueKind {
	return moment(otherwise, "for how long; by default "+strings.Replace(otherwise.String(), "m0s", "m", 1))
}

// moment is a length of service time with another help.
func moment(otherwise time.Duration, help string) valueKind {
	return valueKind{help: help, otherwise: value{length: otherwise}, set: func(v *value, given any) (err error) {
		v.length, err = asDuration(given)
		return err
	}}
}

// number is a number of something. The help shows a default of 0 or more.
func number(otherwise float64, what string) valueKind {
	help := what
	if otherwise >= 0 {
		help = strings.TrimPrefix(fmt.Sprintf("%s; by default %v", what, otherwise), "; ")
	}
	return valueKind{help: help, otherwise: value{number: otherwise}, set: func(v *value, given any) error {
		switch n := given.(type) {
		case int:
			v.number = float64(n)
		case float64:
			v.number = n
		default:
			return fmt.Errorf("value %v isn't a number", given)
		}
		return nil
	}}
}

// words are a string; other values are ignored.
func words(otherwise, help string) valueKind {
	return valueKind{help: help, otherwise: value{text: otherwise}, set: func(v *value, given any) error {
		if text, ok := given.(string); ok {
			v.text = text
		}
		return nil
	}}
}

func failureName() valueKind {
	return valueKind{help: "the failure's name, see below", required: true, set: func(v *value, given any) error {
		v.text, _ = given.(string)
		if _, known := vllmserver.FindFailure(v.text); !known {
			return fmt.Errorf("value %v isn't the name of a failure", given)
		}
		return nil
	}}
}

func outageFor(otherwise time.Duration, help string) valueKind {
	return valueKind{help: help, otherwise: value{outage: outage{For: Duration(otherwise)}}, set: func(v *value, given any) error {
		if _, isObject := given.(map[string]any); isObject {
			return decodeAgain(given, &v.outage)
		}
		d, err := asDuration(given)
		v.outage.For = Duration(d)
		return err
	}}
}

func answers(otherwise answer, help string) valueKind {
	return valueKind{help: help, otherwise: value{answer: otherwise}, set: func(v *value, given any) error {
		switch status := given.(type) {
		case int:
			v.answer.Status = status
		case float64:
			v.answer.Status = int(status)
		default:
			if err := decodeAgain(given, &v.answer); err != nil {
				return err
			}
		}
		if v.answer.Status < 200 || v.answer.Status > 599 {
			return fmt.Errorf("status %d", v.answer.Status)
		}
		return nil
	}}
}

// decodeAgain decodes a value that was decoded before, or made in Go, into another type.
func decodeAgain(from, into any) error {
	data, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return facts.Decode(data, into)
}
