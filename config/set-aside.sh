#!/bin/sh
# An example of the set_aside hook of a Redis or a Valkey. The store is down; what lies in FOLDER is the other release's.
#
#   set-aside.sh keep|move RELEASE FOLDER
#
# keep: RELEASE reads it where it is. move: it can't. Then all goes to FOLDER/aside, in place of what lay there before,
# and the store starts empty: its master gives it everything. Where it has kept no AOF, a snapshot that can be said in
# RELEASE without a loss stays, rewritten: the store goes on from there, and needs no full sync if its master still has
# what came since.
set -eu
data=$1 release=$2
cd "$3"

case $data in
keep) exit 0 ;;
move) ;;
*) echo "neither keep nor move: $data" >&2; exit 1 ;;
esac
mkdir -p aside
for file in dump.rdb appendonly.aof appendonlydir; do
    [ -e "$file" ] || continue
    rm -rf "aside/$file"
    mv "$file" aside/
    moved=${moved:-}$file
done
[ "${moved:-}" = dump.rdb ] || exit 0
"${SEGUE:-segue}" convert --loss refuse --to "$release" aside/dump.rdb dump.rdb || echo "it starts without its data"
