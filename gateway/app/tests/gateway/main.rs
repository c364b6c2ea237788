//! Black-box tests of the whole gateway: the real binary, real sockets, a provider that is made up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    reason = "a test reports by panicking, its helpers stand outside test functions, and a table of \
              inputs stands beside what is expected of them"
)]

mod admin_roles;
mod audit_purge;
mod batches;
mod cases;
mod certificates;
mod clamp;
mod cli_audit;
mod cli_files;
mod cli_prices;
mod cli_quickstart;
mod cli_report;
mod cli_serve;
mod cli_tokens;
mod compose;
mod console;
mod crash;
mod credential_kinds;
mod dashboards;
mod doctor;
mod elevated;
mod explain;
mod fleet;
mod full_disk;
mod handover;
mod guides;
mod harness;
mod isolation;
mod k8s;
mod lifecycle;
mod limits;
mod live;
mod logs;
mod money;
mod notices;
mod otlp;
mod overload;
mod own_usage;
mod reconcile;
mod record_store;
mod refusals;
mod relay;
mod revocation;
mod sdk;
mod sealed_replies;
mod shared_keys;
mod sidecar;
mod systemd;
mod tidy;
mod token_exchange;
mod vault_backends;
mod vault_scopes;
