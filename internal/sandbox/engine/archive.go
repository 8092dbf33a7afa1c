package engine

import (
	"archive/tar"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// files is the directory of the files that were copied into a container. Its processes
// see the real file system; vLLM looks here first.
func (c *container) files() string { return filepath.Join(c.dir, vllmserver.FilesDir) }

// putArchive unpacks a tar archive in a container, as `docker cp` does.
func (e *Engine) putArchive(w http.ResponseWriter, req *http.Request, c *container) error {
	if err := os.MkdirAll(c.files(), 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(c.files())
	if err != nil {
		return err
	}
	defer root.Close()
	below := filepath.Clean("/" + req.URL.Query().Get("path"))
	archive := tar.NewReader(req.Body)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			w.WriteHeader(http.StatusOK)
			return nil
		}
		if err == nil {
			//nolint:gosec // G305: nothing gets out of an os.Root
			err = unpack(root, filepath.Join(".", below, header.Name), header, archive)
		}
		if err != nil {
			return refusal(http.StatusBadRequest, "can't unpack the archive: %v", err)
		}
	}
}

// unpack writes one entry of an archive, without its owner.
func unpack(root *os.Root, name string, header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeDir {
		return root.MkdirAll(name, 0o700)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	file, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}
