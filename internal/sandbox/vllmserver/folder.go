package vllmserver

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// folder is a model that is a directory.
type folder struct {
	path   string
	config struct {
		Architectures []string       `json:"architectures"`
		Type          string         `json:"model_type"`
		Layers        int            `json:"num_hidden_layers"`
		Heads         int            `json:"num_attention_heads"`
		KVHeads       int            `json:"num_key_value_heads"`
		HeadDim       int            `json:"head_dim"`
		Hidden        int            `json:"hidden_size"`
		Intermediate  int            `json:"intermediate_size"`
		Context       int            `json:"max_position_embeddings"`
		AutoMap       map[string]any `json:"auto_map"`
		Quantization  struct {
			Method string `json:"quant_method"`
		} `json:"quantization_config"`
	}
}

// folder returns the model's directory, nil if it is no directory.
func (r *run) folder() *folder {
	f := &folder{path: r.place.file(r.opts.model())}
	if info, err := os.Stat(f.path); err != nil || !info.IsDir() {
		return nil
	}
	return f
}

// listed is the list of correct values in a recorded failure.
func (r *run) listed(failure, pattern, separator string) []string {
	rec, _ := facts.Failure(r.place.version, failure)
	return strings.Split(regexp.MustCompile(pattern).FindStringSubmatch(rec.Log)[1], separator)
}

var architectureName = regexp.MustCompile(`^(\w+?)(?:For\w+|Model|LMHeadModel)$`)

// check reads the model's configuration as vLLM and transformers do.
func (f *folder) check(r *run) error {
	data, err := os.ReadFile(filepath.Join(f.path, "config.json"))
	if err != nil || json.Unmarshal(data, &f.config) != nil {
		return r.fail("no-config")
	}
	supported := r.listed("unknown-architecture", `dict_keys\(\['([^\]]*)'\]\)`, "', '")
	known := func(arch string) bool { // transformers names types as their classes
		m := architectureName.FindStringSubmatch(arch)
		return len(m) == 2 && strings.EqualFold(m[1], strings.ReplaceAll(f.config.Type, "_", ""))
	}
	arch := strings.Join(f.config.Architectures, "', '")
	switch {
	case len(f.config.AutoMap) > 0 && !r.opts.on("trust-remote-code"):
		return r.fail("trust_remote_code", "model", r.opts.model())
	case !slices.ContainsFunc(supported, known):
		return r.fail("unknown-model-type", "type", "`"+f.config.Type+"`")
	case !slices.Contains(supported, arch):
		return r.fail("architecture", "arch", arch)
	}
	return nil
}

// shape is made of the configuration and of the weights' size.
func (f *folder) shape() facts.Model {
	c := f.config
	s := facts.Model{
		Prefix: f.path, Architecture: c.Architectures[0], Layers: max(1, c.Layers), Heads: max(1, c.Heads),
		KVHeads: c.KVHeads, HeadDim: c.HeadDim, Context: max(1, c.Context),
	}
	s.KVHeads = cmp.Or(s.KVHeads, s.Heads)
	if s.HeadDim == 0 {
		s.HeadDim = max(1, c.Hidden/s.Heads)
	}
	for _, file := range f.weights() {
		if info, err := os.Stat(file); err == nil {
			s.Billions += float64(info.Size()) / 2e9 // in bf16
		}
	}
	return s
}

// chats reports whether the tokenizer, if there is one, has a chat template.
func (f *folder) chats() bool {
	config, err := os.ReadFile(filepath.Join(f.path, "tokenizer_config.json"))
	if err != nil || bytes.Contains(config, []byte(`"chat_template"`)) {
		return true
	}
	_, err = os.Stat(filepath.Join(f.path, "chat_template.jinja"))
	return err == nil
}

func (f *folder) weights() []string {
	files, _ := filepath.Glob(filepath.Join(f.path, "*.safetensors")) // the pattern is right
	return files
}

// checkWeights reads the headers of the weights' files: files have to have all their tensors, and tensors the size of
// the configuration.
func (f *folder) checkWeights(r *run) error {
	files := f.weights()
	if len(files) == 0 {
		return r.fail("no_weights", "model", r.opts.model())
	}
	for _, file := range files {
		tensors, whole := readTensors(file)
		if !whole {
			return r.fail("truncated-weights")
		}
		for _, name := range slices.Sorted(maps.Keys(tensors)) { // in which vLLM loads them
			if err := f.checkTensor(r, name, tensors[name].Shape); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkTensor takes each worker's part of a tensor, as the weight loaders in 0.32.0's
// vllm/model_executor/parameter.py do, which don't notice tensors that are too large.
func (f *folder) checkTensor(r *run, name string, shape []int) error {
	model := r.plan.shape
	var want, dimension int
	shards := r.plan.tp
	switch layer := strings.TrimSuffix(name, ".weight"); layer[strings.LastIndexByte(layer, '.')+1:] {
	case "q_proj":
		want = model.Heads * model.HeadDim
	case "k_proj", "v_proj":
		want, shards = model.KVHeads*model.HeadDim, min(shards, model.KVHeads)
	case "o_proj":
		want, dimension = model.Heads*model.HeadDim, 1
	case "gate_proj", "up_proj":
		want = f.config.Intermediate
	case "down_proj":
		want, dimension = f.config.Intermediate, 1
	}
	if dimension >= len(shape) {
		return nil
	}
	for part, start := want/shards, 0; start < want; start += part {
		if start+part > shape[dimension] {
			return r.fail("wrong-shapes", "part", fmt.Sprintf("start (%d) + length (%d)", start, part), "size", fmt.Sprintf("size (%d)", shape[dimension]))
		}
	}
	return nil
}

type tensor struct {
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// readTensors reads the header of a safetensors file; whole is true if the file has all its tensors.
func readTensors(path string) (tensors map[string]tensor, whole bool) {
	file, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer file.Close()
	info, err := file.Stat()
	var size [8]byte
	if _, readErr := io.ReadFull(file, size[:]); err != nil || readErr != nil {
		return nil, false
	}
	length := binary.LittleEndian.Uint64(size[:])
	if length > 100<<20 { // safetensors' own bound
		return nil, false
	}
	header := make([]byte, length)
	if _, err := io.ReadFull(file, header); err != nil || json.Unmarshal(header, &tensors) != nil {
		return nil, false
	}
	delete(tensors, "__metadata__")
	end := int64(0)
	for _, tensor := range tensors {
		end = max(end, tensor.Offsets[1])
	}
	return tensors, info.Size() == 8+int64(length)+end
}

// checkServer makes the checks of the API server before it binds its port.
func (r *run) checkServer() error {
	parser, parsers := r.opts.text("tool-call-parser"), r.listed("tool-parser-unknown", `chose from \{ ?([^}]*?) ?\}`, ",")
	if r.opts.on("enable-auto-tool-choice") && !slices.Contains(parsers, parser) && r.opts.text("tool-parser-plugin") == "" {
		return r.fail("tool-parser-unknown", "asked", "parser: "+parser)
	}
	return r.takePort()
}

// checkScheduler compares the sizes of a batch.
func (r *run) checkScheduler() error {
	tokens, sequences := r.opts.number("max-num-batched-tokens", 1<<30), r.opts.number("max-num-seqs", 256)
	if tokens < sequences {
		return r.fail("batched-below-context", "tokens", "("+strconv.Itoa(tokens)+")", "sequences", "("+strconv.Itoa(sequences)+")")
	}
	return nil
}

// loadAdapters looks for the LoRA adapters that are folders.
func (r *run) loadAdapters() error {
	for _, a := range r.modules() {
		if _, err := os.Stat(filepath.Join(r.place.file(a.Path), "adapter_config.json")); filepath.IsAbs(a.Path) && err != nil {
			return r.fail("lora-missing", "name", "lora "+a.Name+" failed", "path", a.Path)
		}
	}
	return nil
}
