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

program=$(command -v vllm) && printf '%s\t%s\n' "$program" "$(installed "$program")"
for ready in "$base"/env/*/ready; do
	[ -f "$ready" ] || continue
	environment=${ready%/ready}
	[ -x "$environment/bin/vllm" ] && printf '%s\t%s\n' "$environment/bin/vllm" "${environment##*/}"
done
exit 0
