#!/usr/bin/env bash
# Runs the training command as N processes on this machine, joined like hosts: a rehearsal of a cluster.
#
#   launch/local_processes.sh [--dry-run] N --config=FILE.py --workdir=DIR [--config.KEY=VALUE ...]
#
# JAX_NUM_CPU_DEVICES=M gives each process M CPU devices. The first process, the lead, prints its lines as they are; the
# others print theirs with their number in front. Ctrl-C and SIGTERM go to all of them. The exit code is the first that
# is not 0.
set -euo pipefail

dry_run=
if [ "${1:-}" = --dry-run ]; then dry_run=1; shift; fi
if ! [[ "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/local_processes.sh [--dry-run] N --config=FILE.py --workdir=DIR [--config.KEY=VALUE ...]" >&2
  exit 2
fi
count=$1
shift
port=${PORT:-$((20000 + RANDOM % 10000))}
pids=()

for ((i = 0; i < count; i++)); do
  command=(python -m wdsr_jax.main "$@")
  command+=("--coordinator=localhost:$port" "--processes=$count" "--process=$i")
  if [ -n "$dry_run" ]; then
    printf '%q ' "${command[@]}"
    echo
  elif [ "$i" = 0 ]; then
    "${command[@]}" &
    pids+=($!)
  else
    "${command[@]}" > >(sed -u "s/^/[$i] /") 2> >(sed -u "s/^/[$i] /" >&2) &
    pids+=($!)
  fi
done
[ -z "$dry_run" ] || exit 0

trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM
trap 'kill -INT "${pids[@]}" 2>/dev/null || true' INT
code=0
for pid in "${pids[@]}"; do
  while :; do
    status=0
    wait "$pid" || status=$?
    kill -0 "$pid" 2>/dev/null || break # if it is alive, a signal interrupted `wait`
  done
  [ "$code" != 0 ] || code=$status
done
exit "$code"
