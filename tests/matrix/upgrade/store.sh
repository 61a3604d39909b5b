#!/bin/sh
# The hooks of a node in the tests: its store's programs are bin/RELEASE, its data is in this folder. A file
# `options` has more options for the store, and `as` the words of a command that starts it; while there is a file
# `hold-WHAT` that hook waits, and `held` has a line for each one that began to.
#   store.sh stop|install|start FOLDER RELEASE PORT [MASTER_HOST MASTER_PORT]
#   store.sh set_aside FOLDER RELEASE PORT keep|move
set -eu
what=$1 folder=$2 release=$3 port=$4
cd "$folder"

is_running() {
    # One that has ended and was not waited for yet has no command line.
    [ -s pid ] && grep -q . "/proc/$(cat pid)/cmdline" 2>/dev/null
}

[ ! -e "hold-$what" ] || echo >>held
while [ -e "hold-$what" ]; do sleep 0.05; done
case $what in
stop)
    is_running || exit 0
    # A 6.0 that writes its first AOF refuses to end.
    while is_running; do kill -TERM "$(cat pid)" 2>/dev/null || :; sleep 0.05; done
    ;;
install)
    [ -x "bin/$release" ] || { echo "there is no program bin/$release" >&2; exit 1; }
    echo "$release" >installed
    ;;
start)
    is_running && exit 0
    set -- --port "$port" --bind 127.0.0.1 --dir "$folder" --logfile "$folder/log" --loglevel verbose \
        --pidfile "$folder/pid" --daemonize yes --save "3600 1" --repl-backlog-size 64mb --repl-diskless-sync-delay 0 \
        --repl-timeout 10 ${5:+--replicaof "$5" "$6"}
    # shellcheck disable=SC2046 # words
    $(cat as 2>/dev/null) "./bin/$(cat installed)" "$@" $(cat options 2>/dev/null)
    ;;
set_aside)
    if [ "$5" = move ]; then rm -rf dump.rdb appendonly.aof appendonlydir; fi
    echo "$5 for $release"
    ;;
esac
