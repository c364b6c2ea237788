# Puts an empty crate behind each manifest, so that cargo builds what the crates depend on and
# nothing else. Run in a directory that holds the manifests alone.
set -eu
for manifest in gateway/*/Cargo.toml loadtest/Cargo.toml; do
  crate=$(dirname "$manifest")
  mkdir -p "$crate/src"
  echo '//! Hollow.' >"$crate/src/lib.rs"
done
for crate in gateway/app loadtest; do
  printf '%s\n' '//! Hollow.' 'fn main() {}' >"$crate/src/main.rs"
done
rm gateway/app/src/lib.rs
