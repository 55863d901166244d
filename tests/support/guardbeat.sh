# For scripts that drive a running server: `source` it, then `start_guardbeat`.
# The server runs in a folder of its own on free ports, and ends with the script.

# The debug build, unless another is named.
GUARDBEAT=${GUARDBEAT:-$(tests/support/built.sh guardbeat --workspace)}
# What scripts install stays out of the source tree, and is there for the next run.
target_dir=$("${CARGO:-cargo}" metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
# npm does not install through a symbolic link.
target_dir=$(realpath -m "$target_dir")
# Longest that a server may take to be ready, in seconds.
START_LIMIT_S=30

server_pid=
server_dir=

# start_guardbeat [FLAG…]: sets api_url, admin_token, ca_file (none without TLS) and server_dir.
start_guardbeat() {
  server_dir=$(mktemp -d "${TMPDIR:-/tmp}/guardbeat.XXXXXX")
  env -u REDIS_URL -u MANAGER_AUTH_TOKEN GUARDBEAT_METRICS__LISTEN=127.0.0.1:0 GUARDBEAT_LOG__LEVEL="${GUARDBEAT_LOG__LEVEL:-warn}" \
    "$GUARDBEAT" serve --listen 127.0.0.1:0 --data-dir "$server_dir/data" "$@" \
    >"$server_dir/stdout.log" 2>"$server_dir/stderr.log" </dev/null &
  server_pid=$!
  local deadline=$((SECONDS + START_LIMIT_S))
  until api_url=$(sed -n 's/^ *API *\(http.*\)/\1/p' "$server_dir/stdout.log") && [ -n "$api_url" ]; do
    if ! kill -0 "$server_pid" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
      echo "The server did not start:" >&2
      cat "$server_dir/stderr.log" >&2
      return 1
    fi
    sleep 0.1
  done
  admin_token=$(cat "$server_dir/data/admin-token")
  ca_file=
  if [ -f "$server_dir/data/tls/ca.pem" ]; then ca_file=$server_dir/data/tls/ca.pem; fi
}

# Ends the server; fails if it did not end well, as it does after a panic.
stop_guardbeat() {
  local pid=$server_pid
  server_pid=
  kill -TERM "$pid" 2>/dev/null || true
  if ! wait "$pid"; then
    echo "The server did not end well:" >&2
    cat "$server_dir/stderr.log" >&2
    return 1
  fi
  if grep --quiet panicked "$server_dir/stderr.log"; then
    echo "Something panicked in the server:" >&2
    cat "$server_dir/stderr.log" >&2
    return 1
  fi
  rm -rf "$server_dir"
}

# Whatever happens, no server stays behind. Its folder does after a failure, for whoever looks into it.
trap '[ -z "$server_pid" ] || { kill -KILL "$server_pid" 2>/dev/null; echo "What the server left is in $server_dir" >&2; }' EXIT
