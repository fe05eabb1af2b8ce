#!/usr/bin/env bash
# Whether the versions that requirements.txt admits do their work: the oldest of each package with the oldest Python, and
# the newest with newer ones. Each end is a fresh environment that trains, resumes, evaluates, upscales and converts.
#
#   launch/requirements_ends.sh [--tests] [FOLDER]
#
# --tests runs the default tests in each as well. Needs uv (https://docs.astral.sh/uv), which finds or downloads Python 3.11
# to 3.13. Environments and results stay in FOLDER, by default a new one in /tmp, which is named at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

tests=
if [ "${1:-}" = --tests ]; then tests=1; shift; fi
folder=$(realpath "${1:-$(mktemp -d -t requirements_ends.XXXXXX)}")
failed=()

try_end() { # RESOLUTION PYTHON: fails with the first command that does
  local end=$folder/$1-$2
  rm -rf "$end"
  uv venv --quiet --python "$2" "$end/venv"
  export PATH="$end/venv/bin:$PATH" VIRTUAL_ENV=$end/venv XDG_CACHE_HOME=$end/cache
  uv pip install --quiet --resolution "$1" -e '.[test]'
  uv pip freeze >"$end/versions.txt"

  train=(python -m wdsr_jax.main --config=configs/quickstart.py "--workdir=$end/run" --config.model.filters=4
    --config.model.blocks=1 --config.train.warmup_steps=2 --config.train.eval_every=20 --config.train.checkpoint_every=10)
  "${train[@]}" --config.train.steps=20
  "${train[@]}" --config.train.steps=30 --config.train.resume_changed=true
  mkdir "$end/photos"
  cp "$(python -c 'import skimage; print(skimage.__path__[0])')/data/chelsea.png" "$end/photos"
  python -m wdsr_jax.evaluate "--model=$end/run" --scale=2 "$end/photos"
  python -m wdsr_jax.upscale "$end/photos/chelsea.png" --scale=2 "--model=$end/run" "--out=$end/large.png"
  python -m wdsr_jax.convert "$end/run" "$end/official.safetensors" --to=torch
  python -m wdsr_jax.convert "$end/official.safetensors" "$end/converted.safetensors"
  [ -z "$tests" ] || python -m pytest -n 2
}

while read -r resolution python; do
  echo "--- $resolution, Python $python"
  # In a shell of its own and not as a condition, in which `set -e` would mean nothing.
  set +e
  (set -e; try_end "$resolution" "$python" </dev/null)
  code=$?
  set -e
  [ "$code" = 0 ] || failed+=("$resolution, Python $python")
done <<'ENDS'
lowest-direct 3.11
highest 3.12
highest 3.13
ENDS
echo "environments and results: $folder"
[ "${#failed[@]}" = 0 ] || { printf 'failed: %s\n' "${failed[@]}" >&2; exit 1; }
