//! `tollgate k8s tenant`: a namespace in which a tenant's agents can do nothing but call the gateway.
//!
//! The service accounts exist for their tokens: the gateway exchanges them for task tokens. In the
//! cluster itself they may do nothing, which the empty Role states, so that whoever gives them more
//! has to write it there. `--policy` prints the other half: what the gateway has to be told.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Args;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::json;
use tollgate_core::ids::TenantId;

use super::arguments::{DnsLabel, is_label_value};
use super::network::Peers;
use super::room::Room;
use crate::output;

/// Names the tenant on everything that is its own. The chart lets namespaces that have it reach the gateway.
const TENANT_LABEL: &str = "tollgate/tenant";

/// What is named after what it is for, and not after the tenant.
const OWN_NAME: &str = "tollgate";

const BY_KUBECTL: &str = "\
Example:
  tollgate k8s tenant acme | kubectl apply -f -
  tollgate k8s tenant acme --policy >> policies/issuers/kubernetes.toml";

/// What to print for which tenant.
#[derive(Debug, Args)]
#[command(after_help = BY_KUBECTL)]
pub(crate) struct Tenant {
    /// The tenant's id, as in its policy file
    name: TenantId,
    /// The namespace to make [default: the tenant's id]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<DnsLabel>,
    /// A service account of its agents; may be given several times
    #[arg(long, value_name = "NAME", default_value = "agent")]
    service_account: Vec<DnsLabel>,
    #[command(flatten, next_help_heading = "Network")]
    peers: Peers,
    #[command(flatten, next_help_heading = "Quota")]
    room: Room,
    /// Print instead the lines for the gateway's issuers/*.toml that map these service accounts to the tenant
    #[arg(long, conflicts_with = "json")]
    policy: bool,
    /// Print JSON: one List
    #[arg(long)]
    json: bool,
}

/// One object, which serialises as itself.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Manifest {
    Namespace(Namespace),
    ServiceAccount(ServiceAccount),
    Role(Role),
    RoleBinding(RoleBinding),
    NetworkPolicy(NetworkPolicy),
    ResourceQuota(ResourceQuota),
    LimitRange(LimitRange),
}

impl Tenant {
    /// Prints it.
    ///
    /// # Errors
    /// If the tenant's id cannot name a namespace and none is given.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let namespace = self.namespace()?;
        if self.policy {
            return output::data(&self.mappings(&namespace));
        }
        let manifests = self.manifests(&namespace);
        if self.json {
            return output::json(&json!({"apiVersion": "v1", "kind": "List", "items": manifests}));
        }
        output::data(&serde_saphyr::to_string_multiple(&manifests)?)
    }

    fn namespace(&self) -> anyhow::Result<DnsLabel> {
        let id = self.name.as_str();
        if !is_label_value(id) {
            bail!(
                "{id} cannot be the value of a Kubernetes label, which must end with a letter or digit and have 63 characters at most"
            );
        }
        let namespace = match (&self.namespace, id.parse()) {
            (Some(given), _) => given.clone(),
            (None, Ok(same)) => same,
            (None, Err(why)) => {
                bail!("{id} cannot be a namespace, whose name {why}; give one with --namespace")
            }
        };
        if let Some(whose) = self.peers.owner_of(&namespace) {
            bail!("{namespace} is {whose}; a tenant needs a namespace of its own");
        }
        Ok(namespace)
    }

    /// In the order in which they can be applied.
    fn manifests(&self, namespace: &DnsLabel) -> Vec<Manifest> {
        let named = |name: &str| ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_string()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        };
        let mut all = vec![Manifest::Namespace(self.closed(namespace))];
        all.extend(self.peers.policies(named).map(Manifest::NetworkPolicy));
        all.extend([
            Manifest::ResourceQuota(self.room.quota(named(OWN_NAME))),
            Manifest::LimitRange(Room::shares(named(OWN_NAME))),
        ]);
        all.extend(self.service_account.iter().map(|account| {
            Manifest::ServiceAccount(ServiceAccount {
                metadata: named(account.as_str()),
                automount_service_account_token: Some(false),
                ..ServiceAccount::default()
            })
        }));
        let role = named("tollgate-agent");
        all.extend([
            Manifest::Role(Role {
                metadata: role.clone(),
                rules: Some(Vec::new()),
            }),
            Manifest::RoleBinding(RoleBinding {
                role_ref: RoleRef {
                    api_group: "rbac.authorization.k8s.io".to_owned(),
                    kind: "Role".to_owned(),
                    name: role.name.clone().unwrap_or_default(),
                },
                subjects: Some(self.subjects(namespace)),
                metadata: role,
            }),
        ]);
        all
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let labels = [
            (TENANT_LABEL, self.name.as_str()),
            ("app.kubernetes.io/managed-by", "tollgate"),
        ];
        labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    /// The namespace, which admits no pod that could reach beyond its own container.
    fn closed(&self, namespace: &DnsLabel) -> Namespace {
        let mut labels = self.labels();
        for mode in ["enforce", "audit", "warn"] {
            let key = format!("pod-security.kubernetes.io/{mode}");
            labels.insert(format!("{key}-version"), "latest".to_owned());
            labels.insert(key, "restricted".to_owned());
        }
        Namespace {
            metadata: ObjectMeta {
                name: Some(namespace.to_string()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        }
    }

    fn subjects(&self, namespace: &DnsLabel) -> Vec<Subject> {
        let subject = |account: &DnsLabel| Subject {
            kind: "ServiceAccount".to_owned(),
            name: account.to_string(),
            namespace: Some(namespace.to_string()),
            api_group: None,
        };
        self.service_account.iter().map(subject).collect()
    }

    /// What an issuer file of the gateway needs. Names hold no character that TOML would quote.
    fn mappings(&self, namespace: &DnsLabel) -> String {
        let tenant = &self.name;
        let map = |account: &DnsLabel| {
            format!(
                "\n[[map]]\nwhen = {{ \"/kubernetes.io/namespace\" = \"{namespace}\", \"/kubernetes.io/serviceaccount/name\" = \"{account}\" }}\ntenant = \"{tenant}\"\nagent = \"{account}\"\ntask = {{ claim = \"/kubernetes.io/pod/name\" }}\n"
            )
        };
        self.service_account.iter().map(map).collect()
    }
}
