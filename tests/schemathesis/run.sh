#!/usr/bin/env bash
# Schemathesis against a running server: requests made from the API's document, right ones and wrong ones, with every
# check on. Any finding fails. Needs python3 with venv; `make api-check` sees to it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/support/guardbeat.sh

# Longest run, in seconds.
LIMIT_S=${LIMIT_S:-180}

here=$PWD/tests/schemathesis
document=$PWD/docs/openapi.json
venv=$target_dir/schemathesis
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$here/requirements.txt"

# In the server's folder, where it may leave what it wants.
check() (
  cd "$server_dir"
  export ADMIN_TOKEN=$admin_token SCHEMATHESIS_HOOKS=$here/hooks.py PYTHONDONTWRITEBYTECODE=1
  "$venv/bin/python" "$here/seed.py" "$document" "$api_url" || return
  exec "$venv/bin/st" --config-file "$here/schemathesis.toml" run "$document" --url "$api_url" --max-time "$LIMIT_S"
)

log=$(mktemp "${TMPDIR:-/tmp}/schemathesis.XXXXXX")
start_guardbeat --store embedded: --tls off
echo "== schemathesis, $LIMIT_S s at most; its log: $log"
if check >"$log" 2>&1 </dev/null; then
  tail -n 20 "$log"
  stop_guardbeat
  rm -f "$log"
else
  cat "$log"
  echo "Schemathesis has findings, or could not run; the log is $log" >&2
  exit 1
fi
