package machine

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pkg/sftp"
)

// serveSFTP serves the sftp subsystem, which starts in the machine's home and can't leave
// the machine's directory. It returns when the channel is closed.
func (s *session) serveSFTP() {
	files := &files{root: s.machine.home, prefix: string(s.machine.root)}
	handlers := sftp.Handlers{FileGet: files, FilePut: files, FileCmd: files, FileList: files}
	server := sftp.NewRequestServer(s.channel, handlers, sftp.WithStartDirectory(s.machine.root.Home()))
	status := exit{}
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		status.code = 255
	}
	sendExit(s.channel, status)
	_ = s.channel.Close()
}

// files answers SFTP requests. Paths are those that a shell on the machine sees. Files
// outside the machine's directory are refused, also through symlinks.
type files struct {
	root   *os.Root
	prefix string
}

var (
	_ sftp.PosixRenameFileCmder = (*files)(nil)
	_ sftp.LstatFileLister      = (*files)(nil)
)

// reach calls do with an absolute path on the machine, made relative to the machine's
// directory.
func reach[T any](f *files, path string, do func(rel string) (T, error)) (result T, err error) {
	rel, err := filepath.Rel(f.prefix, filepath.Clean(path))
	if err != nil || !filepath.IsLocal(rel) {
		return result, sftp.ErrSSHFxPermissionDenied
	}
	result, err = do(rel)
	if err != nil && strings.Contains(err.Error(), "path escapes from parent") { // by a symlink
		err = sftp.ErrSSHFxPermissionDenied
	}
	return result, err
}

// within is reach without a result.
func (f *files) within(path string, do func(rel string) error) error {
	_, err := reach(f, path, func(rel string) (struct{}, error) { return struct{}{}, do(rel) })
	return err
}

// Fileread opens a file for reading.
func (f *files) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	file, err := reach(f, r.Filepath, f.root.Open)
	if err != nil {
		return nil, err // and not a nil file
	}
	return file, nil
}

// Filewrite opens a file for writing.
func (f *files) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	asked, flags := r.Pflags(), os.O_WRONLY
	// Append is left to the offsets that clients send: WriteAt doesn't go with it.
	for _, flag := range []struct {
		set  bool
		flag int
	}{{asked.Creat, os.O_CREATE}, {asked.Trunc, os.O_TRUNC}, {asked.Excl, os.O_EXCL}} {
		if flag.set {
			flags |= flag.flag
		}
	}
	file, err := reach(f, r.Filepath, func(path string) (*os.File, error) { return f.root.OpenFile(path, flags, 0o644) })
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Filecmd changes files.
func (f *files) Filecmd(r *sftp.Request) error {
	if r.Method == "Symlink" { // Filepath is what the link says, Target the link
		return f.within(r.Target, func(link string) error { return f.root.Symlink(r.Filepath, link) })
	}
	return f.within(r.Filepath, func(path string) error {
		switch r.Method {
		case "Setstat":
			return f.setstat(path, r)
		case "Mkdir":
			return f.root.Mkdir(path, 0o755)
		case "Rmdir", "Remove":
			return f.root.Remove(path)
		}
		return sftp.ErrSSHFxOpUnsupported
	})
}

// PosixRename replaces the target, as rename(2) does.
func (f *files) PosixRename(r *sftp.Request) error {
	return f.within(r.Filepath, func(from string) error {
		return f.within(r.Target, func(to string) error { return f.root.Rename(from, to) })
	})
}

func (f *files) setstat(path string, r *sftp.Request) error {
	flags, attributes := r.AttrFlags(), r.Attributes()
	if flags.Size {
		file, err := f.root.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(file.Truncate(int64(attributes.Size)), file.Close()); err != nil {
			return err
		}
	}
	if flags.Permissions {
		if err := f.root.Chmod(path, attributes.FileMode().Perm()); err != nil {
			return err
		}
	}
	if flags.Acmodtime {
		return f.root.Chtimes(path, attributes.AccessTime(), attributes.ModTime())
	}
	return nil
}

// Filelist lists a directory or describes a file.
func (f *files) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	if r.Method != "List" {
		info, err := reach(f, r.Filepath, f.root.Stat)
		return infoList{info}, err
	}
	entries, err := reach(f, r.Filepath, func(path string) ([]fs.DirEntry, error) {
		return fs.ReadDir(f.root.FS(), filepath.ToSlash(path))
	})
	var infos infoList
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil { // not removed meanwhile
			infos = append(infos, info)
		}
	}
	return infos, err
}

// Lstat describes a file, or a symlink itself.
func (f *files) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	info, err := reach(f, r.Filepath, f.root.Lstat)
	return infoList{info}, err
}

type infoList []os.FileInfo

// ListAt copies the entries from offset on.
func (l infoList) ListAt(into []os.FileInfo, offset int64) (int, error) {
	if offset >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(into, l[offset:])
	if n < len(into) {
		return n, io.EOF
	}
	return n, nil
}
