package engine

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
)

const (
	imageName = "shopper-sandbox/vllm"
	// programDir is where the image has the stand-in, beside what containers may
	// get from the computer (see systemDirs).
	programDir = "/opt/shopper-sandbox"
)

// sharedImages counts who uses the images of this process, so that its last machine
// removes them. Only one of its operations runs at a time: an engine that is to
// make and remove the same image at once leaves one without a name behind.
type sharedImages struct {
	turn chan struct{}
	used map[string]*sharedImage // by socket and program
}

type sharedImage struct {
	machines int
	ref      string
}

var images = sharedImages{turn: make(chan struct{}, 1), used: map[string]*sharedImage{}}

// acquire makes sure that the real engine has the image of a program. The image
// is made from scratch: it holds the program, under the names that a container
// knows it by, and nothing else.
func (s *sharedImages) acquire(ctx context.Context, d *docker, program string) (string, error) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	key := d.socket + "\n" + program
	image := s.used[key]
	if image == nil {
		ref, err := d.makeImage(ctx, program)
		if err != nil {
			return "", err
		}
		image = &sharedImage{ref: ref}
		s.used[key] = image
	}
	image.machines++
	return image.ref, nil
}

// release removes the image after the last machine that used it.
func (s *sharedImages) release(ctx context.Context, d *docker) error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	key := d.socket + "\n" + d.engine.cfg.Program
	image := s.used[key]
	if image == nil {
		return nil
	}
	if image.machines--; image.machines > 0 {
		return nil
	}
	delete(s.used, key)
	return d.remove(ctx, "/images/"+image.ref)
}

// sweepImages removes those of processes that are gone.
func (d *docker) sweepImages(ctx context.Context) {
	var list []struct{ RepoTags []string }
	filter, _ := json.Marshal(map[string][]string{"reference": {imageName}}) // strings always can be
	if _, err := d.get(ctx, "/images/json?filters="+url.QueryEscape(string(filter)), &list); err != nil {
		return // the next sandbox tries again
	}
	for _, image := range list {
		for _, ref := range image.RepoTags {
			_, text, _ := strings.Cut(ref, ":")
			pid, err := strconv.Atoi(text)
			if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				_ = d.remove(ctx, "/images/"+ref)
			}
		}
	}
}

// makeImage imports the image, under the number of this process.
func (d *docker) makeImage(ctx context.Context, program string) (string, error) {
	d.sweepImages(ctx)
	file, err := os.Open(program)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	tag := strconv.Itoa(os.Getpid())
	layer, write := io.Pipe()
	go func() { write.CloseWithError(writeLayer(write, file, info.Size())) }()
	query := url.Values{"fromSrc": {"-"}, "repo": {imageName}, "tag": {tag}, "message": {"the stand-in for vLLM"}}
	status, data, err := d.send(ctx, http.MethodPost, "/images/create?"+query.Encode(), "application/x-tar", layer)
	_ = layer.Close()
	switch {
	case err != nil:
		return "", fmt.Errorf("making the containers' image: %w", err)
	case status != http.StatusOK || strings.Contains(string(data), `"error"`):
		return "", fmt.Errorf("making the containers' image: %w", d.refused(status, data))
	}
	return imageName + ":" + tag, nil
}

// writeLayer writes the image's one layer.
func writeLayer(w io.Writer, program io.Reader, size int64) error {
	layer := tar.NewWriter(w)
	name := path.Join(programDir, "vllm")[1:]
	err := layer.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: size, Typeflag: tar.TypeReg})
	if err != nil {
		return err
	}
	if _, err := io.CopyN(layer, program, size); err != nil {
		return err
	}
	link := path.Join(programDir, "nvidia-smi")[1:]
	if err := layer.WriteHeader(&tar.Header{Name: link, Linkname: "vllm", Mode: 0o777, Typeflag: tar.TypeSymlink}); err != nil {
		return err
	}
	return layer.Close()
}
