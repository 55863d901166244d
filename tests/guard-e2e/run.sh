#!/usr/bin/env bash
# The published Guard client, end to end: over plain HTTP, then over TLS. Needs node and npm; `make guard-e2e` sees to it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/support/guardbeat.sh

client=$target_dir/guard-e2e
mkdir -p "$client"
cp tests/guard-e2e/package.json tests/guard-e2e/package-lock.json "$client"
npm ci --prefix "$client" --ignore-scripts --no-audit --no-fund --loglevel=error
export CLIENT_FILE=$client/node_modules/@panguard-ai/panguard-guard/dist/agent-client/index.js

# Short, so that silence is soon noticed.
export MANAGER_HEARTBEAT_TIMEOUT_MS=1000
export GUARDBEAT_AUTH__OPEN_ENROLLMENT=127.0.0.0/8,::1/128

for mode in off self-signed; do
  echo "== the published client, TLS $mode"
  start_guardbeat --store embedded: --tls "$mode"
  # The client trusts what node trusts.
  API_URL=$api_url ADMIN_TOKEN=$admin_token NODE_EXTRA_CA_CERTS=$ca_file node --test --test-reporter=spec tests/guard-e2e/e2e.mjs
  stop_guardbeat
done
