package engine

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"

	imagetypes "github.com/moby/moby/api/types/image"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// ref is a parsed image reference, without the host of Docker Hub.
type ref struct{ name, tag, digest string }

func (r ref) String() string {
	if r.digest != "" {
		return r.name + "@" + r.digest
	}
	return r.name + ":" + r.tag
}

// host is the registry, "" for Docker Hub.
func (r ref) host() string {
	first, _, found := strings.Cut(r.name, "/")
	if found && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return first
	}
	return ""
}

func parseRef(text string) ref {
	var r ref
	text = strings.TrimPrefix(strings.TrimPrefix(text, "index."), "docker.io/")
	r.name, r.digest, _ = strings.Cut(text, "@")
	if i := strings.LastIndex(r.name, ":"); i > strings.LastIndex(r.name, "/") {
		r.name, r.tag = r.name[:i], r.name[i+1:]
	}
	r.name = strings.TrimPrefix(r.name, "library/")
	if r.tag == "" && r.digest == "" {
		r.tag = "latest"
	}
	return r
}

// image is an image of the engine, or of a registry.
type image struct {
	ref     ref
	def     Image
	id      string // of the configuration
	digest  string // of the manifest
	created time.Time
}

func newImage(r ref, def Image) *image {
	sum := func(what string) string {
		h := sha256.Sum256([]byte(what + " " + r.name + ":" + r.tag))
		return "sha256:" + hex.EncodeToString(h[:])
	}
	def.Version = cmp.Or(def.Version, strings.TrimPrefix(r.tag, "v"))
	return &image{ref: r, def: def, id: sum("config"), digest: sum("manifest"), created: time.Date(2025, 10, 2, 8, 0, 0, 0, time.UTC)}
}

// entrypoint is the image's program; vLLM's images before 0.11 ran the module.
func (i *image) entrypoint() []string {
	if releaseTag.MatchString(i.def.Version) && facts.Compare(i.def.Version, "0.11") < 0 {
		return []string{"python3", "-m", "vllm.entrypoints.openai.api_server"}
	}
	return []string{"vllm", "serve"}
}

// env is the environment of the image's configuration.
func (i *image) env() []string {
	return []string{
		"PATH=/usr/local/nvidia/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility", "NVIDIA_REQUIRE_CUDA=cuda>=12.8", "VLLM_USAGE_SOURCE=production-docker-image",
	}
}

var releaseTag = regexp.MustCompile(`^v?\d+\.\d+(?:\.\d+)?(?:[.\-]?[A-Za-z0-9_.\-]*)?$`)

// remote finds an image in the registries.
func (e *Engine) remote(r ref) (*image, error) {
	for _, def := range e.cfg.Images {
		known := newImage(parseRef(def.Ref), def)
		if known.ref.name == r.name && (known.ref.tag == r.tag || known.digest == r.digest && r.digest != "") {
			return known, nil
		}
	}
	denied := refusal(http.StatusNotFound, "pull access denied for %s, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", r.name)
	if !strings.Contains(path.Base(r.name), "vllm") || strings.Contains(r.name, "nosuch") {
		return nil, denied
	}
	if r.digest != "" {
		return findDigest(r)
	}
	if releaseTag.MatchString(r.tag) && strings.HasPrefix(r.tag, "v") && facts.Compare(r.tag, "0.5") >= 0 {
		return newImage(r, Image{Ref: r.String()}), nil
	}
	return nil, refusal(http.StatusNotFound, "manifest for %s not found: manifest unknown: manifest unknown", r)
}

// findDigest tries all releases: a digest is made from a name and a tag.
func findDigest(r ref) (*image, error) {
	for minor := 5; minor < 60; minor++ {
		for patch := range 6 {
			candidate := newImage(ref{name: r.name, tag: fmt.Sprintf("v0.%d.%d", minor, patch)}, Image{})
			if candidate.digest == r.digest {
				return candidate, nil
			}
		}
	}
	return nil, refusal(http.StatusNotFound, "manifest for %s not found: manifest unknown: manifest unknown", r)
}

// localImage finds an image of the engine by reference, id or digest.
func (e *Engine) localImage(name string) (*image, error) {
	r := parseRef(name)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, img := range e.local {
		bare := strings.TrimPrefix(img.id, "sha256:")
		wanted := strings.TrimPrefix(name, "sha256:")
		switch {
		case img.ref.String() == r.String(), r.digest != "" && img.ref.name == r.name && img.digest == r.digest:
			return img, nil
		case len(wanted) >= 12 && strings.HasPrefix(bare, wanted):
			return img, nil
		}
	}
	return nil, refusal(http.StatusNotFound, "No such image: %s", r)
}

// checkAuth compares the credentials of a pull with those that the registry requires.
func checkAuth(req *http.Request, img *image) error {
	header := req.Header.Get("X-Registry-Auth")
	var auth struct{ Username, Password, IdentityToken, RegistryToken string }
	if header != "" {
		data, err := base64.URLEncoding.DecodeString(header)
		if err == nil {
			err = json.Unmarshal(data, &auth)
		}
		if err != nil {
			return refusal(http.StatusBadRequest, "invalid X-Registry-Auth header: %v", err)
		}
	}
	switch {
	case img.def.Username == "" && img.def.Password == "":
		return nil
	case auth.Username == "" && auth.Password == "" && auth.RegistryToken == "":
		return refusal(http.StatusNotFound, "pull access denied for %s, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", img.ref.name)
	case auth.Username != img.def.Username || auth.Password != img.def.Password:
		host := cmp.Or(img.ref.host(), "registry-1.docker.io")
		return refusal(http.StatusInternalServerError, "Head \"https://%s/v2/%s/manifests/%s\": unauthorized: incorrect username or password", host, strings.TrimPrefix(img.ref.name, host+"/"), img.ref.tag)
	}
	return nil
}

func (e *Engine) inspectImage(w http.ResponseWriter, req *http.Request) error {
	name, ok := strings.CutSuffix(req.PathValue("name"), "/json")
	if !ok {
		return refusal(http.StatusNotFound, "page not found")
	}
	img, err := e.localImage(name)
	if err != nil {
		return err
	}
	tags := []string{}
	if img.ref.tag != "" {
		tags = append(tags, img.ref.name+":"+img.ref.tag)
	}
	out := map[string]any{
		"Id": img.id, "RepoTags": tags, "RepoDigests": []string{img.ref.name + "@" + img.digest}, "Created": timestamp(img.created),
		"Architecture": "amd64", "Os": "linux", "Size": imageGB * int64(1e9), "RootFS": map[string]any{"Type": "layers", "Layers": []string{img.digest}},
		"Config": map[string]any{"Env": img.env(), "Entrypoint": img.entrypoint(), "Cmd": nil, "WorkingDir": "/vllm-workspace", "User": "", "Labels": nil},
	}
	return writeJSON(w, http.StatusOK, out)
}

func (e *Engine) listImages(w http.ResponseWriter, _ *http.Request) error {
	e.mu.Lock()
	list := make([]imagetypes.Summary, 0, len(e.local))
	for _, img := range e.local {
		list = append(list, imagetypes.Summary{
			ID: img.id, Created: img.created.Unix(), Size: imageGB * 1e9, SharedSize: -1, Containers: -1, Labels: map[string]string{},
			RepoTags: []string{img.ref.String()}, RepoDigests: []string{img.ref.name + "@" + img.digest},
		})
	}
	e.mu.Unlock()
	return writeJSON(w, http.StatusOK, list)
}
