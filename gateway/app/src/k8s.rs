//! `tollgate k8s`: manifests for Kubernetes, printed and never applied.
//!
//! Everything follows from the command line; no cluster, policy or data is looked at. The same
//! command line gives the same bytes, so that applying them again changes nothing.

mod arguments;
mod network;
mod room;
mod tenant;

use clap::Subcommand;

use tenant::Tenant;

/// What to print.
#[derive(Debug, Subcommand)]
pub(crate) enum K8sCommand {
    /// A tenant's namespace, closed on all sides but to the gateway and DNS
    ///
    /// Prints a Namespace that admits only restricted pods, service accounts that may do nothing in the
    /// cluster, network policies, a ResourceQuota and a LimitRange, as YAML for `kubectl apply -f -`.
    Tenant(Box<Tenant>),
}

impl K8sCommand {
    /// Does it.
    ///
    /// # Errors
    /// If the names do not fit Kubernetes, or standard output takes nothing.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Tenant(asked) => asked.run(),
        }
    }
}
