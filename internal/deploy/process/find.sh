# Prints the vLLM programs of a machine, one a line: PATH TAB VERSION.
#
#   BASE     where our own installations are
base=$1

# installed PROGRAM prints the release beside a program: from the package's metadata, which is quick, else by asking it.
installed() {
	for metadata in "${1%/*}"/../lib/python3*/site-packages/vllm-*.dist-info; do
		[ -d "$metadata" ] || continue
		release=${metadata##*/vllm-}
		echo "${release%.dist-info}"
		return
	done
	"$1" --version 2>/dev/null </dev/null | tail -n 1
}

# Images for rented machines have environments that only a login shell puts on PATH.
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
