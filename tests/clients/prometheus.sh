#!/usr/bin/env bash
# promtool finds nothing to say about the page of a run, and a Prometheus server on loopback gets its numbers.
#
#     tests/clients/prometheus.sh
#
# Needs curl, jq, prometheus and promtool (Debian: `apt-get install curl jq prometheus`). The run is stopped by its
# own Ctrl-C at the end. Exit 1 at the first difference.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build -q --release --locked --bin twelvefold
prometheus --version 2>&1 | head -n 1
promtool --version 2>&1 | head -n 1

folder=$(mktemp -d)
train= server=
trap 'kill $train $server 2>/dev/null || true; wait; rm -rf "$folder"' EXIT

check() {
    if "${@:2}"; then echo "ok    $1"; else echo "WRONG $1"; exit 1; fi
}

# Waits for a command to succeed, a minute at most.
until_done() {
    for _ in $(seq 600); do
        if "${@:2}" > /dev/null 2>&1; then echo "ok    $1"; return; fi
        sleep 0.1
    done
    echo "WRONG $1: waited in vain"
    exit 1
}

target/release/twelvefold train --out "$folder/run" --layers 1 --heads 1 --width 16 --context 16 --batch 2 \
    --tokenizer bytes --story-bytes 50000 --steps 1000000000 --eval-interval 100 --prometheus 0 > "$folder/log" &
train=$!
told() { grep -q '^prometheus http' "$folder/log"; }
until_done 'the run says where it listens' told
url=$(sed -n 's/^prometheus //p' "$folder/log")
address=${url#http://}
address=${address%/metrics}
echo "      $url"

has_validation() { curl -sSf "$url" | grep -q '^twelvefold_validation_loss '; }
until_done 'the page has a validation' has_validation
curl -sSf -D "$folder/head" "$url" > "$folder/page"
check 'its type is that of the text format' grep -qi '^content-type: text/plain; version=0.0.4' "$folder/head"
promtool check metrics < "$folder/page" > "$folder/lint" 2>&1
check 'promtool says nothing of it' test ! -s "$folder/lint"
check 'HEAD has the same head' cmp -s <(curl -sSfI "$url" | grep -i type) <(grep -i type "$folder/head")

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > "$folder/prometheus.yml" << END
scrape_configs:
  - job_name: twelvefold
    scrape_interval: 1s
    static_configs: [{targets: ["$address"]}]
END
promtool check config "$folder/prometheus.yml" > /dev/null
prometheus --config.file "$folder/prometheus.yml" --storage.tsdb.path "$folder/data" \
    --web.listen-address "127.0.0.1:$port" > "$folder/server" 2>&1 &
server=$!

ask() {
    curl -sSf "http://127.0.0.1:$port/api/v1/$1" --data-urlencode "${2:-limit=1000}" -G
}
is_up() { ask query 'query=up{job="twelvefold"} == 1' | jq -e '.data.result | length == 1'; }
until_done 'the server scrapes it' is_up
two_scrapes() { ask query 'query=count_over_time(twelvefold_steps_total[1m]) >= 3' | jq -e '.data.result | length == 1'; }
until_done 'more than once' two_scrapes

# Every series of the page, under its own name and label.
series() { sed -n 's/^\(twelvefold_[^ ]*\) .*/\1/p' "$1" | sort; }
series "$folder/page" > "$folder/expected"
ask query 'query={__name__=~"twelvefold_.*"}' | jq -r '.data.result[].metric | .__name__ + (
    if .stage then "{stage=\"" + .stage + "\"}" elif .version then "{version=\"" + .version + "\"}" else "" end)' \
    | sort > "$folder/found"
check "it has every series of the page ($(wc -l < "$folder/expected"))" diff "$folder/expected" "$folder/found"
ask metadata | jq -r '.data | to_entries[] | select(.key | startswith("twelvefold")) | "\(.key) \(.value[0].type)"' \
    | sort > "$folder/types"
check 'and their types' diff <(sed -n 's/^# TYPE //p' "$folder/page" | sort) "$folder/types"

# The numbers of one scrape are those of one step: its line.
ask query 'query=twelvefold_steps_total[1m]' | jq -r '.data.result[0].values[-1] | "\(.[0]) \(.[1])"' > "$folder/last"
read -r at step < "$folder/last"
line() { grep "\"step\":$step," "$folder/run/metrics.jsonl"; }
until_done "the line of step $step is written" line
for pair in loss:loss lr:learning_rate grad_norm:gradient_norm tokens:tokens_total seconds:run_seconds \
    time:step_timestamp_seconds spheres_tasks:spheres_tasks_total memory_bytes:memory_bytes \
    'stage_batch_busy_seconds:stage_busy_seconds_total{stage="batch"}'; do
    name=${pair%%:*}
    found=$(ask query "query=twelvefold_${pair#*:}[1m]" \
        | jq -r --arg at "$at" '.data.result[0].values[] | select((.[0] | tostring) == $at) | .[1]')
    expected=$(line | jq -r ".$name")
    check "step $step: $name is $expected" python3 -c "exit($found != $expected)"
done

kill -INT "$train"
code=0
wait "$train" || code=$?
check 'the run ends' test "$code" -eq 130
gone() { ! curl -s "$url" > /dev/null; }
check 'and nobody listens any more' gone
echo 'all agree'
