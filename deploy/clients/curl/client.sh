#!/usr/bin/env bash
# A client of a pipeline's gateway, with curl and jq; deploy/clients.md says what it does and why.
#
#   client.sh URL ask ID_FIELD [DEADLINE_S] < events.jsonl
#   client.sh URL later TOPIC/PARTITION/OFFSET
#
# GATEWAY_KEY is sent as the key, if it is set; GATEWAY_CA names who vouches for the gateway.
set -euo pipefail

usage() {
  echo "client.sh URL ask ID_FIELD [DEADLINE_S] | later TOPIC/PARTITION/OFFSET" >&2
  exit 2
}

[ $# -ge 3 ] || usage
url=$1 command=$2 word=$3 deadline_s=${4:-30}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The key stands in a file: the command line of a process is everybody's to read.
printf '%s' "${GATEWAY_KEY:+authorization: Bearer $GATEWAY_KEY}" > "$work/key"

# Ask for a path: the status is printed, 000 for none; body and head are in files.
request() {
  curl --silent --max-time 30 --output "$work/body" --dump-header "$work/head" \
    --write-out '%{http_code}' --header "@$work/key" ${GATEWAY_CA:+--cacert "$GATEWAY_CA"} \
    "${@:2}" "$url$1" || true
}

decision() {
  jq --compact-output '{source: "\(.source.topic)/\(.source.partition)/\(.source.offset)",
                        decision: .}' "$work/body"
}

# Publish one event and wait for its end. It has a key: however often it is sent, it is published
# once, and what comes too late for one request is the answer of the next.
ask() {
  local status until=$((SECONDS + deadline_s)) wait_s
  while :; do
    : > "$work/body" > "$work/head"
    status=$(request '/predict?deadline_ms=10000' --data-binary @- \
      --header 'content-type: application/json' --header "idempotency-key: $2" <<< "$1")
    case $status in
      200) decision; return ;;
      422) jq --compact-output '{source, dead_letter: {stage, reason}}' "$work/body"; return 1 ;;
      000 | 429 | 503 | 504) [ $SECONDS -lt $until ] || break ;;
      *) break ;;
    esac
    wait_s=$(sed -n 's/^retry-after: *\([0-9]*\).*/\1/ip' "$work/head")
    sleep "${wait_s:-1}"
  done
  # With coordinates it is published and will be decided: `later` asks for that.
  jq --compact-output --null-input --argjson body "$(jq . "$work/body" || echo null)" \
    '{source: $body.source, error: ($body.detail // "no answer")}'
  return 1
}

case $command in
  ask)
    code=0
    while IFS= read -r event; do
      [ -n "$event" ] || continue
      ask "$event" "$(jq --raw-output --arg id "$word" '.[$id]' <<< "$event")" || code=1
    done
    exit $code ;;
  later)
    [ "$(request "/decisions" --get --data-urlencode "source=$word")" = 200 ] || {
      jq --compact-output '{source, error: .detail}' "$work/body"
      exit 1
    }
    decision ;;
  *) usage ;;
esac
