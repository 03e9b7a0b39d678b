#!/usr/bin/env bash
# The HTTP side under load: CONNECTIONS (200) for SECONDS (60) on each of /healthz, the status page and /api/v1/jobs, by wrk.
# Fails if any answer is not 2xx or any connection breaks. BINARY may name another build.
set -euo pipefail
cd "$(dirname "$0")/.."
CONNECTIONS=${CONNECTIONS:-200} SECONDS_EACH=${SECONDS_EACH:-60} BINARY=${BINARY:-target/release/inkport}
command -v wrk >/dev/null || { echo "bench/http.sh: wrk is not here: apt-get install wrk" >&2; exit 1; }
folder=$(mktemp -d)
cat >"$folder/inkport.toml" <<TOML
version = 1
data-dir = "data"
[ftp]
listen = "127.0.0.1:0"
passive-ports = "29000-29010"
[http]
listen = "127.0.0.1:0"
status = "public"
[ocr]
models = "$PWD/models"
TOML
inkport() { "$BINARY" --config "$folder/inkport.toml" "$@"; }
echo "a password for nobody" | inkport account add bench --password-stdin 2>/dev/null
key=$(inkport key add bench --kind bearer 2>/dev/null | python3 -c 'import json, sys; print(json.load(sys.stdin)["secret"])')
"$BINARY" --config "$folder/inkport.toml" serve >"$folder/ready" 2>"$folder/log" &
daemon=$!
trap 'kill $daemon 2>/dev/null; wait $daemon 2>/dev/null || true; rm -rf "$folder"' EXIT
for _ in $(seq 600); do grep -q ready "$folder/ready" && break; sleep 0.1; done
address=$(sed -n 's/.*http=\([^ ]*\).*/\1/p' "$folder/ready")
[ -n "$address" ] || { cat "$folder/log" >&2; exit 1; }
for number in 1 2 3 4 5; do
    curl --silent --fail --max-time 120 --header "X-API-Key: $key" --form "file=@tests/fixtures/digital.pdf;filename=page-$number.pdf" \
        "http://$address/api/v1/ocr" >/dev/null
done
failed=0
for path in /healthz / /api/v1/jobs; do
    echo "== $path, $CONNECTIONS connections, $SECONDS_EACH s"
    wrk --threads 2 --connections "$CONNECTIONS" --duration "${SECONDS_EACH}s" --timeout 30s --latency \
        --header "X-API-Key: $key" "http://$address$path" | tee "$folder/out"
    if grep -qE "Non-2xx|Socket errors" "$folder/out"; then failed=1; fi
done
echo "daemon's peak memory: $(awk '/VmHWM/ {print $2, $3}' "/proc/$daemon/status")"
exit $failed
