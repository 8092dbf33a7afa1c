"""Write to standard output a tar of what the environment needs of this computer.

It is the root of a container image: the interpreter, its library, and the shared
libraries of both. The environment itself is mounted at MOUNT. Run it with the
environment's own python: image.py MOUNT
"""

import io
import os
import subprocess
import sys
import sysconfig
import tarfile

MOUNT = sys.argv[1]
PASSWD = b"root:x:0:0:root:/root:/bin/sh\n"  # torch asks who it runs as
LEFT_OUT = {"test", "tests", "site-packages", "dist-packages", "idlelib", "ensurepip", "__pycache__"}


def libraries(roots):
    """The shared libraries outside of the environment that files below roots are linked to."""
    programs = [
        os.path.join(directory, name)
        for root in roots
        for directory, _, names in os.walk(root)
        for name in names
        if ".so" in name
    ] + [interpreter, "/bin/sh"]
    found = set()
    for start in range(0, len(programs), 100):
        # Some files aren't libraries: what ldd says of those isn't wanted.
        output = subprocess.run(["ldd", *programs[start : start + 100]], capture_output=True, text=True, check=False).stdout
        for word in output.split():
            if word.startswith("/") and not word.endswith(":") and not word.startswith(sys.prefix):
                found.add(word)
    return found


def add(tar, path, filter=None):
    """A file or folder under its own name, links followed."""
    tar.add(path, path, filter=filter)


def small(entry):
    return None if os.path.basename(entry.name) in LEFT_OUT else entry


def write(tar, name, mode, data):
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, len(data)
    tar.addfile(entry, io.BytesIO(data))


interpreter = os.path.realpath(sys._base_executable)
stdlib = sysconfig.get_path("stdlib")
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", dereference=True) as tar:
    add(tar, stdlib, small)
    for path in sorted(libraries([sys.prefix, stdlib]) | {interpreter, "/bin/sh"}):
        add(tar, path)
    command = f'#!/bin/sh\nexec "{MOUNT}/venv/bin/python" "{MOUNT}/venv/bin/vllm" "$@"\n'
    write(tar, "usr/local/bin/vllm", 0o755, command.encode())
    write(tar, "etc/passwd", 0o644, PASSWD)
    folder = tarfile.TarInfo("tmp")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
    tar.addfile(folder)
