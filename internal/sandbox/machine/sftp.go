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

// serveSFTP is the sftp subsystem, which starts in the machine's home and can't
// leave the machine's directory. It ends with the channel.
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

// files answers SFTP requests from within the machine's directory. Paths are the
// ones that a shell on the machine sees; everything outside is refused, also
// where a symlink leads there.
type files struct {
	root   *os.Root
	prefix string
}

var (
	_ sftp.OpenFileWriter       = (*files)(nil)
	_ sftp.PosixRenameFileCmder = (*files)(nil)
	_ sftp.LstatFileLister      = (*files)(nil)
	_ sftp.ReadlinkFileLister   = (*files)(nil)
)

// within turns an absolute path on the machine into one below its directory.
func (f *files) within(path string) (string, error) {
	rel, err := filepath.Rel(f.prefix, filepath.Clean(path))
	if err != nil || !filepath.IsLocal(rel) {
		return "", sftp.ErrSSHFxPermissionDenied
	}
	return rel, nil
}

// Fileread opens a file for reading.
func (f *files) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	path, err := f.within(r.Filepath)
	if err != nil {
		return nil, err
	}
	file, err := f.root.Open(path)
	if err != nil {
		return nil, visible(err)
	}
	return file, nil
}

// Filewrite opens a file for writing.
func (f *files) Filewrite(r *sftp.Request) (io.WriterAt, error) { return f.OpenFile(r) }

// OpenFile opens a file for reading and writing.
func (f *files) OpenFile(r *sftp.Request) (sftp.WriterAtReaderAt, error) {
	path, err := f.within(r.Filepath)
	if err != nil {
		return nil, err
	}
	asked := r.Pflags()
	flags := os.O_WRONLY
	if asked.Read {
		flags = os.O_RDWR
	}
	// Append is left to the offsets that clients send: WriteAt doesn't go with it.
	for _, flag := range []struct {
		set  bool
		flag int
	}{{asked.Creat, os.O_CREATE}, {asked.Trunc, os.O_TRUNC}, {asked.Excl, os.O_EXCL}} {
		if flag.set {
			flags |= flag.flag
		}
	}
	file, err := f.root.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, visible(err)
	}
	return file, nil
}

// Filecmd changes something about files.
func (f *files) Filecmd(r *sftp.Request) error {
	if r.Method == "Symlink" { // Filepath is what the link says, Target the link
		link, err := f.within(r.Target)
		if err != nil {
			return err
		}
		return visible(f.root.Symlink(r.Filepath, link))
	}
	path, err := f.within(r.Filepath)
	if err != nil {
		return err
	}
	switch r.Method {
	case "Setstat":
		return visible(f.setstat(path, r))
	case "Mkdir":
		return visible(f.root.Mkdir(path, 0o755))
	case "Rmdir", "Remove":
		return visible(f.root.Remove(path))
	case "Rename", "Link":
		target, err := f.within(r.Target)
		if err != nil {
			return err
		}
		if r.Method == "Link" {
			return visible(f.root.Link(path, target))
		}
		if _, err := f.root.Lstat(target); err == nil {
			return sftp.ErrSSHFxFailure // SFTP's own rename doesn't replace
		}
		return visible(f.root.Rename(path, target))
	}
	return sftp.ErrSSHFxOpUnsupported
}

// PosixRename replaces what is there, as rename(2) does.
func (f *files) PosixRename(r *sftp.Request) error {
	from, err := f.within(r.Filepath)
	if err != nil {
		return err
	}
	to, err := f.within(r.Target)
	if err != nil {
		return err
	}
	return visible(f.root.Rename(from, to))
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
	path, err := f.within(r.Filepath)
	if err != nil {
		return nil, err
	}
	if r.Method == "List" {
		entries, err := fs.ReadDir(f.root.FS(), filepath.ToSlash(path))
		if err != nil {
			return nil, visible(err)
		}
		var infos infoList
		for _, entry := range entries {
			if info, err := entry.Info(); err == nil { // not removed meanwhile
				infos = append(infos, info)
			}
		}
		return infos, nil
	}
	info, err := f.root.Stat(path)
	return infoList{info}, visible(err)
}

// Lstat describes a file, or a symlink itself.
func (f *files) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	path, err := f.within(r.Filepath)
	if err != nil {
		return nil, err
	}
	info, err := f.root.Lstat(path)
	return infoList{info}, visible(err)
}

// Readlink returns what a symlink says.
func (f *files) Readlink(path string) (string, error) {
	rel, err := f.within(path)
	if err != nil {
		return "", err
	}
	target, err := f.root.Readlink(rel)
	return target, visible(err)
}

// visible turns the error of a symlink that leads out of the machine into the one
// that a client understands.
func visible(err error) error {
	if err != nil && strings.Contains(err.Error(), "path escapes from parent") {
		return sftp.ErrSSHFxPermissionDenied
	}
	return err
}

type infoList []os.FileInfo

// ListAt copies what there is from offset on.
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
