package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// pullTime is how long the pull of an image takes on a real machine.
const pullTime = 90 * time.Second

// stream sends JSON messages, each at once.
type stream struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	s := &stream{w, http.NewResponseController(w)}
	_ = s.ctrl.Flush()
	return s
}

func (s *stream) send(message any) {
	data, err := json.Marshal(message)
	if err != nil {
		return
	}
	_, _ = s.w.Write(append(data, '\r', '\n'))
	_ = s.ctrl.Flush()
}

// progress is a message of a pull.
type progress struct {
	Status   string          `json:"status,omitempty"`
	ID       string          `json:"id,omitempty"`
	Detail   *progressDetail `json:"progressDetail,omitempty"`
	Progress string          `json:"progress,omitempty"`
	Error    string          `json:"error,omitempty"`
	Cause    *errorDetail    `json:"errorDetail,omitempty"`
}

type progressDetail struct {
	Current int64 `json:"current,omitempty"`
	Total   int64 `json:"total,omitempty"`
}

type errorDetail struct {
	Message string `json:"message"`
}

func (s *stream) fail(message string) {
	s.send(progress{Error: message, Cause: &errorDetail{message}})
}

func (e *Engine) pull(w http.ResponseWriter, req *http.Request) error {
	query := req.URL.Query()
	name, tag := query.Get("fromImage"), query.Get("tag")
	if name == "" {
		return refusal(http.StatusBadRequest, "only pulling by fromImage is supported")
	}
	switch {
	case strings.HasPrefix(tag, "sha256:"):
		name += "@" + tag
	case tag != "":
		name += ":" + tag
	}
	wanted := parseRef(name)
	img, err := e.remote(wanted)
	if err != nil {
		return err
	}
	if err := checkAuth(req, img); err != nil {
		return err
	}
	out := newStream(w)
	out.send(progress{Status: "Pulling from " + strings.TrimPrefix(img.ref.name, img.ref.host()+"/"), ID: tag})
	if present, err := e.localImage(wanted.String()); err == nil {
		out.send(progress{Status: "Digest: " + present.digest})
		out.send(progress{Status: "Status: Image is up to date for " + wanted.String()})
		return nil
	}
	if !e.download(req, out, img) {
		return nil
	}
	e.mu.Lock()
	e.local[img.ref.String()] = img
	e.mu.Unlock()
	out.send(progress{Status: "Digest: " + img.digest})
	out.send(progress{Status: "Status: Downloaded newer image for " + wanted.String()})
	return nil
}

// download plays the download of the layers; false = it broke off.
func (e *Engine) download(req *http.Request, out *stream, img *image) bool {
	layers := []string{img.digest[7:19], img.digest[19:31], img.digest[31:43], img.digest[43:55]}
	for _, layer := range layers {
		out.send(progress{Status: "Pulling fs layer", ID: layer, Detail: &progressDetail{}})
	}
	const steps = 5
	whole := cmp.Or(time.Duration(e.slowPull.Load()), e.facts().Scale(pullTime))
	pause := whole / time.Duration(len(layers)*steps)
	size := imageGB * int64(1e9) / int64(len(layers))
	for i, layer := range layers {
		for step := int64(1); step <= steps; step++ {
			if !e.sleep(req, pause) {
				return false
			}
			done := size * step / steps
			out.send(progress{
				Status: "Downloading", ID: layer, Detail: &progressDetail{done, size},
				Progress: fmt.Sprintf("[%-50s] %.3gGB/%.3gGB", strings.Repeat("=", int(step)*10-1)+">", float64(done)/1e9, float64(size)/1e9),
			})
			if message := e.failPull.Load(); message != nil && *message != "" && i == len(layers)/2 {
				out.fail(*message)
				return false
			}
		}
		out.send(progress{Status: "Download complete", ID: layer, Detail: &progressDetail{}})
		out.send(progress{Status: "Extracting", ID: layer, Detail: &progressDetail{size, size}, Progress: "[" + strings.Repeat("=", 50) + ">]"})
		if e.diskFull() {
			out.fail("failed to register layer: write /usr/local/lib/python3.12/dist-packages/torch/lib/libtorch_cuda.so: no space left on device")
			return false
		}
		out.send(progress{Status: "Pull complete", ID: layer, Detail: &progressDetail{}})
	}
	return true
}

// diskFull reports whether one more image does not fit beside those that were pulled.
func (e *Engine) diskFull() bool {
	facts := e.facts()
	if facts.DiskGB == 0 {
		return false
	}
	needed := imageGB
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, other := range e.local {
		if !other.def.Local {
			needed += imageGB
		}
	}
	return needed > facts.DiskFreeGB
}

// sleep waits; false = the request or the engine has ended.
func (e *Engine) sleep(req *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-req.Context().Done():
	case <-e.life.Done():
	}
	return false
}
