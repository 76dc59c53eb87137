#!/usr/bin/env bash
# mypy cannot follow the folder -> package mapping of setup.py: check a view of it made of links.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
view=$(mktemp -d)
trap 'rm -rf "$view"' EXIT
mkdir "$view/zipml_codec"
ln -s "$top"/zipml_codec/* "$view/zipml_codec/"
ln -s "$top/kernels" "$top/formats" "$view/zipml_codec/"
cd "$view"
mypy --config-file "$top/pyproject.toml" -p zipml_codec
