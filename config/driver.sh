#!/bin/sh
# An example of the commands of `driver = "exec"`: a store of one master and its replicas, driven by redis-cli.
#
#   driver.sh see HOST PORT
#   driver.sh follow HOST PORT MASTER_HOST MASTER_PORT
#   driver.sh switch HOST PORT TO_HOST TO_PORT DIAL_HOST DIAL_PORT PAUSE_MS
#   driver.sh compare HOST PORT MASTER_HOST MASTER_PORT KEYS
#
# Each prints one JSON document: what README.md says under "Other stores", or {"not_yet": "why"}.
set -eu
cli=${REDIS_CLI:-redis-cli}

at() { host=$1 port=$2; shift 2; "$cli" -h "$host" -p "$port" "$@" | tr -d '\r'; }
field() { printf '%s\n' "$info" | sed -n "s/^$1://p"; }
not_yet() { printf '{"not_yet": "%s"}\n' "$1"; exit 0; }

does=$1; shift
case $does in
see)
    info=$(at "$1" "$2" INFO)
    if [ "$(field role)" = master ]; then
        master=true follows=null offset=$(field master_repl_offset)
    else
        master=false follows="\"$(field master_host):$(field master_port)\"" offset=$(field slave_repl_offset)
    fi
    [ "$(field master_link_status)" = up ] && linked=true || linked=false
    [ "$(field loading)" = 0 ] && loading=false || loading=true
    printf '{"store": "redis", "version": "%s", "master": %s, "linked": %s, "follows": %s, "offset": %s, "history": "%s", "loading": %s, "run": "%s"}\n' \
        "$(field redis_version)" "$master" "$linked" "$follows" "$offset" "$(field master_replid)" "$loading" "$(field run_id)"
    ;;
follow)
    # Where it does already, a store says so behind its OK.
    case $(at "$1" "$2" REPLICAOF "$3" "$4") in
    OK*) echo '{"done": true}' ;;
    *) not_yet "REPLICAOF was refused" ;;
    esac
    ;;
switch)
    info=$(at "$1" "$2" INFO replication)
    if [ "$(field role)" != master ]; then
        # A call that was cut off: FAILOVER settles it in the stores.
        [ "$(field master_host):$(field master_port)" = "$5:$6" ] || { echo "it follows another" >&2; exit 1; }
        [ "$(field master_failover_state)" = no-failover ] || not_yet "a FAILOVER is under way"
        echo '{"done": true}'
        exit 0
    fi
    # The last moment at which it can be left: the sidecar answers with a line, yes or no.
    echo '{"ask": "still-wanted"}'
    read -r wanted
    [ "$wanted" = yes ] || not_yet "it is not wanted any more"
    [ "$(at "$1" "$2" FAILOVER TO "$5" "$6" TIMEOUT "$7")" = OK ] || not_yet "FAILOVER was refused"
    until info=$(at "$1" "$2" INFO replication); [ "$(field master_failover_state)" = no-failover ]; do
        sleep 0.1
    done
    [ "$(field role)" = slave ] || not_yet "the replica did not get everything in time"
    echo '{"done": true}'
    ;;
compare)
    # Strings only, with names that need no quoting.
    differ=
    left=$5
    while [ "$left" -gt 0 ]; do
        left=$((left - 1))
        key=$(at "$1" "$2" RANDOMKEY)
        [ "$(at "$1" "$2" TYPE "$key")" = string ] || continue
        [ "$(at "$1" "$2" GET "$key")" = "$(at "$3" "$4" GET "$key")" ] || differ="$differ, \"$key\""
    done
    printf '{"differ": [%s]}\n' "${differ#, }"
    ;;
*)
    echo "see, follow, switch or compare" >&2
    exit 2
    ;;
esac
