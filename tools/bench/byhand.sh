#!/bin/sh
# The provider's main job as people write it down for themselves: rent, wait, log in, start vLLM, wait, ask, release.
# SHOPPER_URL, OFFER, MODEL, PORT (a free one on this computer) and FOLDER (for its files) are set.
set -eu

answer=$(curl -sS -X POST "$SHOPPER_URL/api/v1/sessions" -H 'Content-Type: application/json' -d '{"consumer_id": "by-hand",
  "offer_id": "'"$OFFER"'", "workload_type": "llm_vllm", "reservation_hours": 1}')
field() { printf '%s' "$answer" | sed -n 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/p'; }
id=$(field id)
umask 077
printf '%b' "$(field ssh_private_key)" > "$FOLDER/key"

while [ "$(field status)" != running ]; do
  sleep 5
  answer=$(curl -sS "$SHOPPER_URL/api/v1/sessions/$id")
done

ssh="ssh -q -i $FOLDER/key -p $(field ssh_port) -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
at="$(field ssh_user)@$(field ssh_host)"
$ssh "$at" "nohup vllm serve $MODEL --host 127.0.0.1 --port 8000 > vllm.log 2>&1 < /dev/null &"
$ssh -N -L "127.0.0.1:$PORT:127.0.0.1:8000" "$at" &
tunnel=$!
trap 'kill $tunnel 2>/dev/null || true' EXIT

until curl -sf "http://127.0.0.1:$PORT/health"; do
  sleep 5
done
curl -sS -f "http://127.0.0.1:$PORT/v1/completions" -H 'Content-Type: application/json' \
  -d '{"model": "'"$MODEL"'", "prompt": "Hello", "max_tokens": 5}'

curl -sS -f -X DELETE "$SHOPPER_URL/api/v1/sessions/$id"
