# Installs one release of vLLM into a virtual environment of its own, with uv, as vLLM's documentation says. Run
# again after it was cut short it goes on where it was: uv keeps what it has downloaded.
#
#   install.sh BASE ENVIRONMENT VERSION UNTIL
#
# UNTIL is the end of the day on which an older release was published, empty for the newest: with packages that came later
# it doesn't start. The index that --torch-backend chooses doesn't tell when its packages came, so torch is then the one
# that the release declares.
set -eu
umask 077
base=$1 environment=$2 version=$3 until=$4

find_uv() {
	for uv in "$(command -v uv || :)" "$base/uv/uv" "$base/uv-pip/bin/uv" "${HOME:-/root}/.local/bin/uv"; do
		if [ -n "$uv" ] && [ -x "$uv" ]; then return 0; fi
	done
	return 1
}

if ! find_uv; then
	echo 'installing uv'
	mkdir -p "$base/uv"
	if command -v curl >/dev/null; then
		curl -LsSf https://astral.sh/uv/install.sh | UV_UNMANAGED_INSTALL="$base/uv" sh || :
	elif command -v wget >/dev/null; then
		wget -qO- https://astral.sh/uv/install.sh | UV_UNMANAGED_INSTALL="$base/uv" sh || :
	fi
	find_uv || python3 -m pip install --quiet --target "$base/uv-pip" uv || :
	find_uv || { echo 'uv could not be installed: the machine needs curl, wget or pip, and a way to the internet' >&2; exit 5; }
fi

if [ ! -f "$environment/pyvenv.cfg" ]; then
	"$uv" venv --python 3.12 --seed --allow-existing "$environment"
fi
if [ -n "$until" ]; then choice=--exclude-newer=$until; else choice=--torch-backend=auto; fi
"$uv" pip install --python "$environment/bin/python" "$choice" "vllm==$version"
: >"$environment/ready"
echo 'vLLM is installed'
