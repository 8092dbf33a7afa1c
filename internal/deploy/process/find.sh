# Prints the vLLM programs of a machine, one a line: PATH TAB VERSION.
#
#   BASE     the directory of the provider's installations
base=$1

# installed PROGRAM prints a program's release, as its package's metadata says: `vllm --version` takes 20 to 50 seconds.
installed() {
	for metadata in "${1%/*}"/../lib/python3*/*-packages/vllm-*.dist-info; do
		[ -d "$metadata" ] || continue
		release=${metadata##*/vllm-}
		echo "${release%.dist-info}"
		return
	done
	# A program outside its environment names its Python in its first line.
	IFS= read -r line <"$1"
	python=${line#\#!}
	[ "$python" = "$line" ] || "${python%% *}" -c 'import importlib.metadata as m; print(m.version("vllm"))' 2>/dev/null </dev/null
}

# Images of rented machines have environments that only a login shell puts on PATH.
seen=
for program in "$(command -v vllm)" /venv/main/bin/vllm /opt/venv/bin/vllm "${HOME:-/root}/.local/bin/vllm"; do
	case $program in /*) ;; *) continue ;; esac
	if [ ! -x "$program" ] || [ "$program" = "$seen" ]; then continue; fi
	seen=$program
	printf '%s\t%s\n' "$program" "$(installed "$program")"
done
for ready in "$base"/env/*/ready; do
	[ -f "$ready" ] || continue
	environment=${ready%/ready}
	[ -x "$environment/bin/vllm" ] && printf '%s\t%s\n' "$environment/bin/vllm" "${environment##*/}"
done
exit 0
