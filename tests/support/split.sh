#!/usr/bin/env bash
# split.sh BINARY FOLDER: copies the binary into the folder without its debug information, which goes into
# NAME.debug beside it. Function names stay: backtraces have them without that file, and line numbers with it.
set -euo pipefail
binary=$1 folder=$2
name=$(basename "$binary")
mkdir -p "$folder"
cd "$folder"
objcopy --only-keep-debug --compress-debug-sections=zlib "$binary" "$name.debug"
objcopy --strip-debug --add-gnu-debuglink="$name.debug" "$binary" "$name"
chmod a-x "$name.debug"
ls -sh --block-size=M "$PWD/$name" "$PWD/$name.debug"
