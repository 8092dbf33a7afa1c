package attrs

import (
	"encoding/json"
	"math/big"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// Plain converts a known value to what [json.Marshal] writes and [tftypes.ValueFromJSON] reads. It omits fields that are
// null.
func Plain(value tftypes.Value) (any, error) {
	var (
		text     string
		on       bool
		number   big.Float
		elements []tftypes.Value
		fields   map[string]tftypes.Value
	)
	switch {
	case value.IsNull():
		return nil, nil //nolint:nilnil // JSON's null
	case value.As(&text) == nil:
		return text, nil
	case value.As(&on) == nil:
		return on, nil
	case value.As(&number) == nil:
		return json.Number(number.Text('g', -1)), nil
	case value.As(&elements) == nil:
		all := make([]any, len(elements))
		for i, element := range elements {
			var err error
			if all[i], err = Plain(element); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	if err := value.As(&fields); err != nil { // such as for an unknown value
		return nil, err
	}
	all := map[string]any{}
	for name, field := range fields {
		content, err := Plain(field)
		if err != nil {
			return nil, err
		}
		if content != nil {
			all[name] = content
		}
	}
	return all, nil
}
