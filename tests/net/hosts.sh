#!/usr/bin/env bash
# Hosts of their own on this machine: network namespaces with an address and a name each, joined by a bridge. For tests only.
# usage: D=STATE-FOLDER [N=4] tests/net/hosts.sh up|down|probe|rate RATE
# Host i is the namespace es$NET-i with the address 10.$NET.0.i; $D/hosts is a hostfile, $D/rsh the agent that starts a command there;
# $D/link-i holds the name of its link on this side (ip link set ... down: the host is cut off). probe: 0, or 77 and the reason.
# rate 1gbit: what each host sends and receives passes at that rate (a token bucket); rate none: as fast as it goes.
set -uo pipefail
D=${D:?the state folder} N=${N:-4}

probe() {
    [ "$(id -u)" = 0 ] || { echo "skipped: network namespaces need root"; exit 77; }
    command -v ip >/dev/null || { echo "skipped: no ip (package iproute2)"; exit 77; }
    ip netns add "esprobe$$" 2>/dev/null || { echo "skipped: network namespaces are not permitted here"; exit 77; }
    local rc=0
    ip link add "esp$$" type veth peer name eth0 netns "esprobe$$" 2>/dev/null || rc=77
    ip link add "esb$$" type bridge 2>/dev/null || rc=77
    ip netns exec "esprobe$$" unshare --uts true 2>/dev/null || rc=77
    ip netns del "esprobe$$"
    ip link del "esp$$" 2>/dev/null
    ip link del "esb$$" 2>/dev/null
    [ $rc = 0 ] || echo "skipped: virtual links, bridges or host names are not permitted here"
    exit $rc
}

up() {
    local net i
    for net in $(seq 77 117); do ip link show "es$net" >/dev/null 2>&1 || ip -4 route | grep -q "^10\.$net\." || break; done
    mkdir -p "$D"
    echo "$net" >"$D/net"
    set -e
    ip link add "es$net" type bridge
    ip addr add "10.$net.0.254/24" dev "es$net"
    ip link set "es$net" up
    : >"$D/hosts"
    for i in $(seq "$N"); do
        ip netns add "es$net-$i"
        ip link add "es$net.$i" type veth peer name eth0 netns "es$net-$i"
        ip link set "es$net.$i" master "es$net" up
        ip -n "es$net-$i" addr add "10.$net.0.$i/24" dev eth0
        ip -n "es$net-$i" link set eth0 up
        ip -n "es$net-$i" link set lo up
        echo "10.$net.0.$i slots=2" >>"$D/hosts"
        echo "es$net.$i" >"$D/link-$i"
    done
    cat >"$D/rsh" <<AGENT
#!/bin/bash
host=\$1
shift
exec ip netns exec es$net-\${host##*.} unshare --uts bash -c "hostname es\${host##*.}; \$*"
AGENT
    chmod +x "$D/rsh"
}

rate() {
    local net i
    net=$(cat "$D/net")
    for i in $(seq "$N"); do
        tc qdisc del dev "es$net.$i" root 2>/dev/null
        tc -n "es$net-$i" qdisc del dev eth0 root 2>/dev/null
        [ "$1" = none ] && continue
        tc qdisc add dev "es$net.$i" root tbf rate "$1" burst 128kb latency 50ms || return 1
        tc -n "es$net-$i" qdisc add dev eth0 root tbf rate "$1" burst 128kb latency 50ms || return 1
    done
}

down() {
    local net i
    net=$(cat "$D/net" 2>/dev/null) || return 0
    for i in $(seq "$N"); do
        ip netns pids "es$net-$i" 2>/dev/null | xargs -r kill -KILL
        ip netns del "es$net-$i" 2>/dev/null
    done
    ip link del "es$net" 2>/dev/null
    rm -f "$D"/{net,hosts,rsh} "$D"/link-*
}

case ${1-} in
up | down | probe) "$1" ;;
rate) rate "${2:?a rate, or none}" ;;
*) echo "usage: D=STATE-FOLDER [N=4] $0 up|down|probe|rate RATE" >&2; exit 64 ;;
esac
