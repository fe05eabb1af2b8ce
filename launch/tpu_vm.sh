#!/usr/bin/env bash
# Trains on a Cloud TPU: creates the TPU, copies this repository to all its workers, runs the command on all of them,
# starts again after a preemption until the run is done, then deletes the TPU.
#
#   launch/tpu_vm.sh [--dry-run] NAME --config=FILE.py --workdir=DIR [--config.KEY=VALUE ...]
#
# Environment variables: ZONE (us-central2-b), TYPE (v4-32), VERSION (tpu-ubuntu2204-base), SPOT=1 for a cheaper TPU
# that can be preempted, NFS=HOST:/SHARE for storage that all workers mount at /mnt/share, KEEP=1 to keep the TPU.
# A TPU of several workers needs NFS, with DIR on it; so does a SPOT one, which loses its disks.
# gcloud must be logged in, with a project that may create TPUs. A preemption is not a failure. After 3 failures
# the script ends with the exit code of the last.
set -euo pipefail

dry_run=
if [ "${1:-}" = --dry-run ]; then dry_run=1; shift; fi
if [ $# -lt 2 ] || [[ "$1" = -* ]]; then
  echo "usage: launch/tpu_vm.sh [--dry-run] NAME --config=FILE.py --workdir=DIR [--config.KEY=VALUE ...]" >&2
  exit 2
fi
name=$1
shift
if [ -n "${SPOT:-}" ] && [ -z "${NFS:-}" ]; then
  echo "error: SPOT needs NFS=HOST:/SHARE: a preempted TPU loses its disks" >&2
  exit 2
fi
cd "$(dirname "$0")/.."
failures=0

tpu() { # runs a gcloud command about TPUs, or prints it
  local command=(gcloud compute tpus tpu-vm "$@" "--zone=${ZONE:-us-central2-b}")
  if [ -n "$dry_run" ]; then
    printf '%q ' "${command[@]}"
    echo
  else
    "${command[@]}"
  fi
}

state() {
  [ -n "$dry_run" ] || tpu describe "$name" '--format=value(state)' 2>/dev/null || true
}

set_up() { # copies this commit to all workers and installs its requirements
  local archive=wdsr_jax.tar.gz folder=. mount=
  if [ -n "${NFS:-}" ]; then
    mount="sudo apt-get install -y -q nfs-common && sudo mkdir -p /mnt/share && \
{ mountpoint -q /mnt/share || sudo mount $NFS /mnt/share; } && "
  fi
  if [ -z "$dry_run" ]; then
    folder=$(mktemp -d)
    git archive --output="$folder/$archive" HEAD || return
  fi
  tpu scp "$folder/$archive" "$name:" --worker=all || return
  tpu ssh "$name" --worker=all "--command=${mount}mkdir -p wdsr_jax && tar -xzf $archive -C wdsr_jax && \
curl -LsSf https://astral.sh/uv/install.sh | sh && cd wdsr_jax && ~/.local/bin/uv venv --allow-existing --python=3.12 .venv && \
~/.local/bin/uv pip install --python=.venv -e '.[tpu]'"
}

fail() { # counts a failure with an exit code
  failures=$((failures + 1))
  if [ "$failures" -ge 3 ]; then
    echo "error: failed $failures times (exit code $1); list what is left with: gcloud compute tpus tpu-vm list" >&2
    exit "$1"
  fi
  sleep "${RETRY_SECONDS:-30}"
}

train() { # runs the command on all workers
  tpu ssh "$name" --worker=all "--command=cd wdsr_jax && .venv/bin/python -m wdsr_jax.main $(printf '%q ' "$@")"
}

ready= # 1 once the present TPU has been set up
while :; do
  case $(state) in
    "")
      ready=
      tpu create "$name" "--accelerator-type=${TYPE:-v4-32}" "--version=${VERSION:-tpu-ubuntu2204-base}" \
        ${SPOT:+--spot} || { fail $?; continue; }
      ;;
    READY) ;;
    CREATING | STARTING | REPAIRING | RESTARTING)
      sleep "${RETRY_SECONDS:-30}"
      continue
      ;;
    *) # PREEMPTED, TERMINATED: its name is free once it has been deleted
      tpu delete "$name" --quiet || fail $?
      continue
      ;;
  esac
  code=0
  if [ -z "$ready" ]; then
    set_up && ready=1 || code=$?
  fi
  if [ -n "$ready" ]; then
    train "$@" && break || code=$?
  fi
  # A TPU that has gone explains the failure, so that it does not count.
  [ "$(state)" != READY ] || fail "$code"
done
[ -n "${KEEP:-}" ] || tpu delete "$name" --quiet
