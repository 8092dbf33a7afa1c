set -eu
umask 077
dir=$HOME/.ssh
file=$dir/authorized_keys
mkdir -p "$dir"
[ -e "$file" ] || : >"$file"
# The new file replaces the old one in one step: nobody logs in with half of it, and an interruption locks nobody out.
new=$(mktemp "$dir/.authorized_keys.XXXXXX")
trap 'rm -f "$new"' EXIT
cat "$file" >"$new"
# A last line without a line break would swallow the key that is added.
if [ -n "$(tail -c 1 "$new")" ]; then
  echo >>"$new"
fi
count=$1
shift
while [ "$count" -gt 0 ]; do
  # A key is identified by its base64 part, whatever its comment.
  kept=$(grep -vF -e "$1" "$new" || true)
  printf '%s' "${kept:+$kept
}" >"$new"
  shift
  count=$((count - 1))
done
for key; do
  grep -qxF -e "$key" "$new" || printf '%s\n' "$key" >>"$new"
done
# A mounted file can't be replaced, only written.
mv -f "$new" "$file" 2>/dev/null || cat "$new" >"$file"
