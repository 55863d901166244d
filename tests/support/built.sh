#!/usr/bin/env bash
# built.sh NAME [FLAG…]: builds with these flags of `cargo build`, and prints where the program NAME is: only cargo knows
# that, from CARGO_TARGET_DIR, its configuration and the target that is built for.
set -euo pipefail
name=$1
shift
"${CARGO:-cargo}" build --locked --message-format=json-render-diagnostics "$@" \
  | sed -n "s/.*\"executable\":\"\([^\"]*\/$name\)\".*/\1/p"
