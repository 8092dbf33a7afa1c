package shopper

import (
	"bytes"
	"encoding/json"
)

// salvageSession reads what it can of the session in an answer to a rental
// that is cut off or incomplete, so that the machine can be released by its id.
// It returns nil when there is nothing to read.
func salvageSession(body []byte) *Session {
	session := Session{}
	found := false
	eachField(json.NewDecoder(bytes.NewReader(body)), func(name string, decoder *json.Decoder) bool {
		if name != "session" {
			return false
		}
		eachField(decoder, func(name string, decoder *json.Decoder) bool {
			var value json.RawMessage
			if decoder.Decode(&value) != nil {
				return false
			}
			field, err := json.Marshal(map[string]json.RawMessage{name: value})
			if err == nil && json.Unmarshal(field, &session) == nil {
				found = true // a field of an unexpected type is left out
			}
			return true
		})
		return true
	})
	if !found {
		return nil
	}
	session.toUTC()
	return &session
}

// eachField walks an object's fields for as long as the text goes on. read
// consumes the field's value, or returns false to have it skipped.
func eachField(decoder *json.Decoder, read func(name string, decoder *json.Decoder) bool) {
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return
	}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return
		}
		name, ok := token.(string)
		if !ok {
			return
		}
		if read(name, decoder) {
			continue
		}
		var skipped json.RawMessage
		if decoder.Decode(&skipped) != nil {
			return
		}
	}
	_, _ = decoder.Token() // the closing brace, when it is there
}
