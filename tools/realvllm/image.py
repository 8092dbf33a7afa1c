"""Write a tar of what a virtual environment needs of this computer to run in a container.

It is the root of an image: the interpreter, its library, and the shared libraries of
both. The environment itself is mounted. Run it with the environment's own python:

    image.py DIRECTORY-IN-THE-CONTAINER FILE
"""

import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile

MOUNT, FILE = sys.argv[1:]
PASSWD = b"root:x:0:0:root:/root:/bin/sh\n"  # torch asks who it runs as
LEFT_OUT = {"test", "tests", "site-packages", "dist-packages", "idlelib", "ensurepip", "__pycache__"}


def libraries(roots):
    """The shared libraries outside of the environment that files below roots are linked to."""
    files = [
        os.path.join(directory, name)
        for root in roots
        for directory, _, names in os.walk(root)
        for name in names
        if ".so" in name
    ] + programs
    found = set()
    for start in range(0, len(files), 100):
        # Some files aren't libraries: what ldd says of those isn't wanted.
        output = subprocess.run(["ldd", *files[start : start + 100]], capture_output=True, text=True, check=False).stdout
        for word in output.split():
            if word.startswith("/") and not word.endswith(":") and not word.startswith(sys.prefix):
                found.add(word)
    return found


def small(entry):
    return None if os.path.basename(entry.name) in LEFT_OUT else entry


def write(tar, name, mode, data):
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, len(data)
    tar.addfile(entry, io.BytesIO(data))


# vLLM asks lscpu which cores there are.
programs = [os.path.realpath(sys._base_executable), "/bin/sh", shutil.which("lscpu")]
stdlib = sysconfig.get_path("stdlib")
with tarfile.open(FILE, mode="w", dereference=True) as tar:
    tar.add(stdlib, filter=small)
    for path in sorted(libraries([sys.prefix, stdlib]).union(programs)):
        tar.add(path)
    command = f'#!/bin/sh\nexec "{MOUNT}/venv/bin/python" "{MOUNT}/venv/bin/vllm" "$@"\n'
    write(tar, "usr/local/bin/vllm", 0o755, command.encode())
    write(tar, "etc/passwd", 0o644, PASSWD)
    folder = tarfile.TarInfo("tmp")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
    tar.addfile(folder)
