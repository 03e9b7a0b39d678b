#!/usr/bin/env bash
# How well pages are read: `inkport read` over a folder of documents with ground truth, scored.
#
# DATA (default ../shared/data) holds truth.json, score.py and a folder of files for each kind of page; it
# is not part of this repository, because its licences differ from file to file. Prints error rates for each
# kind (characters, words) and the words found whatever their order (bag of words, F1), in percent, then fields, pairs
# and codes where the kind has them, with which part of the miss is reading and which extraction, then
# how far the confidences can be believed, and the time. KINDS="receipt form" reads only these.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${DATA:-../shared/data}
inkport=${INKPORT:-target/release/inkport}
if [ ! -f "$data/truth.json" ]; then
    echo "bench/accuracy.sh: skipped, there are no documents with ground truth in $data (set DATA)" >&2
    exit 0
fi
[ -x "$inkport" ] || { echo "bench/accuracy.sh: $inkport is not there; run 'make build' first" >&2; exit 1; }
out=$(mktemp -d "${TMPDIR:-/tmp}/inkport-accuracy.XXXXXX")
trap 'rm -rf "$out"' EXIT
read -r -a kinds <<<"${KINDS:-$(cd "$data" && find . -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort | tr '\n' ' ')}"
started=$(date +%s.%N)
for kind in "${kinds[@]}"; do
    # Broken files are part of the set: that they are refused is scored too.
    "$inkport" read --format text,json --out "$out/$kind" "$data/$kind"/* || true
done
ended=$(date +%s.%N)
times >"$out/times"
python3 "$data/score.py" "$data" "$out" --missing-as-error --kinds "$(IFS=,; echo "${kinds[*]}")"
python3 bench/fields.py "$data" "$out" "$(IFS=,; echo "${kinds[*]}")"
python3 bench/reliability.py "$data" "$out"
pages=$(grep -ho '"number": *[0-9]*' -r "$out" --include='*.json' | wc -l)
awk -v w="$(echo "$ended - $started" | bc -l 2>/dev/null || python3 -c "print($ended - $started)")" -v pages="$pages" \
    'NR==2 {split($1, user, /[ms]/); split($2, sys, /[ms]/); cpu = user[1] * 60 + user[2] + sys[1] * 60 + sys[2];
     printf "\n%d pages in %.1f s: %.2f s and %.2f CPU seconds a page\n", pages, w, w / pages, cpu / pages}' "$out/times"
if [ -n "${KEEP:-}" ]; then cp -r "$out" "$KEEP"; fi
