# Installs missing packages, and a release of vLLM into a separate virtual environment, with uv, as vLLM's documentation says. If it
# was interrupted, run it again: uv keeps its downloads.
#
#   install.sh BASE PACKAGES [ENVIRONMENT VERSION UNTIL PYTHON UV REQUIREMENT]
#
#   PACKAGES      the distribution's, "" for none
#   ENVIRONMENT   the virtual environment's directory; without it, only the packages are installed
#   UNTIL         the end of the day on which an older release was published: with later packages it doesn't start. "" for the newest
#   PYTHON        the version of the machine's Python, if the release supports it; "" for uv's, from github.com
#   UV            the version of uv; REQUIREMENT is its line for pip, with checksums
#
# torch is the version that the release requires, which is built for the release's CUDA.
set -eu
umask 077
base=$1 packages=$2
export PIP_NO_INPUT=1

apt() {
	set -- env DEBIAN_FRONTEND=noninteractive apt-get "$@"
	[ "$(id -u)" = 0 ] || set -- sudo -n "$@"
	# A machine that has just booted may hold apt's locks for half an hour.
	until "$@" >"$base/apt.log" 2>&1; do
		lock=$(grep -m 1 -E 'Could not get lock|Unable to (acquire|lock)' "$base/apt.log") || {
			cat "$base/apt.log"
			echo "apt-get could not install $packages"
			exit 6
		}
		echo "waiting for apt's lock: $lock"
		sleep 2
	done
}

if [ -n "$packages" ]; then
	echo "installing $packages"
	apt -q update
	# shellcheck disable=SC2086 # names without spaces
	apt -q install -y --no-install-recommends $packages
fi
[ $# -gt 2 ] || exit 0
environment=$3 version=$4 until=$5 python=$6 uv_version=$7 requirement=$8

uv=$base/uv-$uv_version
if [ ! -x "$uv/bin/uv" ]; then
	echo "installing uv $uv_version"
	rm -rf -- "$uv.new"
	printf '%s\n' "$requirement" >"$base/uv.txt"
	# pip compares the checksum, wherever its index is.
	python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
		--target="$uv.new" --requirement="$base/uv.txt" || { echo 'uv could not be installed with pip'; exit 5; }
	mv -f -- "$uv.new" "$uv"
fi
uv=$uv/bin/uv
if [ ! -f "$environment/pyvenv.cfg" ]; then
	if [ -n "$python" ]; then set -- --no-managed-python --python="$python"; else set -- --managed-python --python=3.12; fi
	"$uv" venv "$@" --seed --allow-existing "$environment"
fi
"$uv" pip install --python="$environment/bin/python" ${until:+--exclude-newer="$until"} "vllm==$version"
: >"$environment/ready"
echo 'vLLM is installed'
