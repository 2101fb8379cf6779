#!/bin/bash
# LABEL net TIMEOUT 400
# Ranks on hosts of their own (network namespaces, TCP between them): the same digest as on this machine alone; with delay, where the
# kernel has netem; at 1 Gbit/s, where it has token buckets; a host that is cut off ends the job by itself within 60 s, and it resumes on the others with equal digest.
# shellcheck disable=SC2015  # fail has no failure of its own
D=${TMPDIR:-/tmp}/earshot-net.$$ N=4
export D N
bash "$EARSHOT_SOURCE/tests/net/hosts.sh" probe || exit $?
# shellcheck source=tests/e2e/toy.sh
. "$EARSHOT_SOURCE/tests/e2e/toy.sh"
trap 'bash "$EARSHOT_SOURCE/tests/net/hosts.sh" down; rm -rf "$D"; toy_end' EXIT
trap 'exit 143' TERM INT
toy_demo
ok 1 prepare --config data-as-strong.yaml --out as-strong.h5
toy_configs
run=(train --config pre.yaml --set train.validate_every=0 --set checkpoint.every_steps=1)
ok 2 "${run[@]}" --set run.dir=runs/calm
[ $failures = 0 ] || done_testing

bash "$EARSHOT_SOURCE/tests/net/hosts.sh" up || { fail "no hosts"; done_testing; }
net=10.$(cat "$D/net").0.0/24
# far RANKS JOB...: one rank a host; leaves code, out and all_err. A lost host is noticed by the launcher's keep-alive
far() {
    local np=$1
    shift
    timeout -k 5 120 mpiexec --mca plm_rsh_agent "$D/rsh" --mca oob_tcp_if_include "$net" --mca btl_tcp_if_include "$net" --mca btl self,vader,tcp \
        --mca oob_tcp_keepalive_time 5 --mca oob_tcp_keepalive_intvl 2 --mca oob_tcp_keepalive_probes 3 --bind-to none \
        --hostfile "$D/hosts" --map-by ppr:1:node -x ES_FAULT -n "$np" "$earshot" "$@" >out 2>all_err </dev/null
    code=$?
}
export ES_FAULT=

echo "== 4 hosts"
far 4 "${run[@]}" --set run.dir=runs/far
[ $code = 0 ] || fail "4 hosts: code $code"
same_runs runs/calm runs/far

echo "== delay"
link=$(cat "$D/link-2")
if tc qdisc add dev "$link" root netem delay 5ms 2>/dev/null; then
    far 2 "${run[@]}" --set run.dir=runs/late
    [ $code = 0 ] || fail "delay: code $code"
    same_runs runs/calm runs/late
    tc qdisc del dev "$link" root
else
    echo "this kernel has no netem: delay is not tested"
fi

echo "== 1 Gbit/s"
if bash "$EARSHOT_SOURCE/tests/net/hosts.sh" rate 1gbit 2>/dev/null; then
    far 4 "${run[@]}" --set run.dir=runs/gigabit
    [ $code = 0 ] || fail "1 Gbit/s: code $code"
    same_runs runs/calm runs/gigabit
    # 2 ranks send half the vector each, there and back: no faster than the link, all three algorithms
    far 2 bench reduce --bytes 50000000 --repeats 3 --json reduce.jsonl
    [ $code = 0 ] && "$python" - <<'PY' || fail "bench reduce at 1 Gbit/s: code $code"
import json
for r in map(json.loads, open("reduce.jsonl")):
    share = r["bytes"] / r["seconds"] / 125e6
    print(f"{r['algorithm']}: {r['seconds']:.3f} s, {share:.2f} of the link")
    assert share < 1.02, "faster than the link"
PY
    bash "$EARSHOT_SOURCE/tests/net/hosts.sh" rate none
else
    echo "this kernel has no token bucket: 1 Gbit/s is not tested"
fi

echo "== a narrow link"
if tc qdisc add dev "$link" root tbf rate 20mbit burst 64kb latency 100ms 2>/dev/null; then
    far 2 "${run[@]}" --set run.dir=runs/narrow
    [ $code = 0 ] || fail "narrow link: code $code"
    same_runs runs/calm runs/narrow
    tc qdisc del dev "$link" root
fi

echo "== a host is cut off"
touch mark
(
    while [ ! -e runs/cut/checkpoint-last.h5 ]; do sleep 0.1; done
    ip link set "$(cat "$D/link-3")" down
    date +%s >cut_at
) &
cutter=$!
ES_FAULT=slow-step:400 far 4 "${run[@]}" --set run.dir=runs/cut --set train.epochs=20 --set watchdog.timeout_s=15
kill $cutter 2>/dev/null
took=$(($(date +%s) - $(cat cut_at 2>/dev/null || echo 0)))
echo "code $code, $took s after the cut"
[ $took -le 60 ] || fail "cut off: it took $took s to end"
# 205 is mpiexec's, which misses its daemon there; 74 our watchdog's, should that be first
[ $code = 205 ] || [ $code = 74 ] || fail "cut off: code $code, want 205 or 74"
ip link set "$(cat "$D/link-3")" up
for _ in $(seq 40); do # the rank that was cut off ends by itself, too
    left=$(ip netns pids "es$(cat "$D/net")-3")
    [ -n "$left" ] || break
    sleep 1
done
[ -z "$left" ] || fail "still running on the host that was cut off: $left"
far 2 "${run[@]}" --set run.dir=runs/cut --set train.epochs=20
[ $code = 0 ] && grep -q 'resume step=' all_err || fail "resume: code $code"
ok 2 "${run[@]}" --set run.dir=runs/long --set train.epochs=20
same_runs runs/long runs/cut
done_testing
