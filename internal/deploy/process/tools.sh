# Prints which tools for vLLM's installation and start the machine has, one per line.
#
#   CC    the compiler that the deployment's environment names, "" for none

# When a server starts, Triton compiles with $CC, else gcc or clang, and the C library's headers (triton/runtime/build.py).
for compiler in "$1" gcc clang; do
	if [ -n "$compiler" ] && echo '#include <stdlib.h>' | "$compiler" -x c -fsyntax-only - >/dev/null 2>&1; then
		echo "compiler $compiler"
		break
	fi
done
# Triton also needs Python.h. uv's Pythons include it, a distribution's only with python3-dev.
found=$(python3 -c 'import sys, sysconfig; print("%d.%d" % sys.version_info[:2], sysconfig.get_path("include"))' 2>/dev/null)
[ -z "$found" ] || echo "python ${found%% *}"
[ ! -f "${found#* }/Python.h" ] || echo "headers ${found#* }"
python3 -m pip --version >/dev/null 2>&1 && echo 'pip yes'
# apt-get takes root, or sudo without a password.
if command -v apt-get >/dev/null; then
	if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then echo 'apt yes'; fi
fi
exit 0
