set -eu
umask 077
dir=$HOME/.ssh
file=$dir/authorized_keys
mkdir -p "$dir"
[ -e "$file" ] || : >"$file"
# Written beside and moved into place, so that nobody who logs in meanwhile meets
# half of it, and nobody is locked out when this is cut short.
new=$(mktemp "$dir/.authorized_keys.XXXXXX")
trap 'rm -f "$new"' EXIT
cat "$file" >"$new"
# A last line without its end would swallow the key that is added.
if [ -n "$(tail -c 1 "$new")" ]; then
  echo >>"$new"
fi
count=$1
shift
while [ "$count" -gt 0 ]; do
  # The key decides, whatever its comment.
  kept=$(grep -vF -e "$1" "$new" || true)
  printf '%s' "${kept:+$kept
}" >"$new"
  shift
  count=$((count - 1))
done
for key; do
  grep -qxF -e "$key" "$new" || printf '%s\n' "$key" >>"$new"
done
# A file that is mounted can't be replaced, only written.
mv -f "$new" "$file" 2>/dev/null || cat "$new" >"$file"
