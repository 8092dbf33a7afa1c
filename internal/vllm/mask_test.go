package vllm

import "testing"

func TestMaskSecrets(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text    string
		secrets []string
		want    string
	}{
		"given":                      {"key is s3cret, yes", []string{"s3cret"}, "key is ***, yes"},
		"empty secrets mask nothing": {"plain text", []string{"", ""}, "plain text"},
		"longest first":              {"abc abcdef", []string{"abc", "abcdef"}, "*** ***"},
		"twice":                      {"x1y2, x1y2", []string{"x1y2"}, "***, ***"},
		"hugging face token":         {"using hf_AbCdEfGhIjKlMnOp now", nil, "using *** now"},
		"hf_home is none":            {"hf_home hf_hub", nil, "hf_home hf_hub"},
		"bearer":                     {"Authorization: Bearer abc.DEF-123=", nil, "Authorization: Bearer ***"},
		"bearer lower":               {"authorization: bearer abcdef", nil, "authorization: bearer ***"},
		"api_key=":                   {"api_key=abc, next", nil, "api_key=***, next"},
		"python dict":                {"{'api_key': ['abc def'], 'port': 1}", nil, "{'api_key': [***], 'port': 1}"},
		"python dict plain":          {"{'api_key': 'abc', 'port': 1}", nil, "{'api_key': ***, 'port': 1}"},
		"api_key none":               {"{'api_key': None, 'port': 1}", nil, "{'api_key': None, 'port': 1}"},
		"variable":                   {"VLLM_API_KEY=abc", nil, "VLLM_API_KEY=***"},
		"flag":                       {"vllm serve m --api-key abc --port 1", nil, "vllm serve m --api-key *** --port 1"},
		"flag =":                     {"--api-key=abc --port 1", nil, "--api-key=*** --port 1"},
		"HF_TOKEN":                   {"HF_TOKEN=abc", nil, "HF_TOKEN=***"},
		"json":                       {`{"hf_token":"abc"}`, nil, `{"hf_token":***}`},
		"already masked":             {"api_key=*** Bearer ***", nil, "api_key=*** Bearer ***"},
		"words about keys stay":      {"use api_key or hf_token instead", nil, "use api_key or hf_token instead"},
	} {
		if got := MaskSecrets(test.text, test.secrets...); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
