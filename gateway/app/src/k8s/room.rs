//! How much of the cluster a tenant may take: a quota for all its pods, and what one container gets.
//!
//! A quota refuses pods that state no requests and limits, so the LimitRange states them for those
//! that do not. What is the platform's to give (ports of nodes, load balancers) is not given.

use std::collections::BTreeMap;

use clap::Args;
use k8s_openapi::api::core::v1::{
    LimitRange, LimitRangeItem, LimitRangeSpec, ResourceQuota, ResourceQuotaSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::arguments::Amount;

/// How much.
#[derive(Debug, Args)]
pub(super) struct Room {
    /// Pods at one time
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pods: u32,
    /// CPU of all pods together
    #[arg(long, value_name = "AMOUNT", default_value = "8")]
    cpu: Amount,
    /// Memory of all pods together
    #[arg(long, value_name = "AMOUNT", default_value = "16Gi")]
    memory: Amount,
    /// Disk of nodes for all pods together
    #[arg(long, value_name = "AMOUNT", default_value = "40Gi")]
    storage: Amount,
}

impl Room {
    /// What all pods together may take.
    pub(super) fn quota(&self, metadata: ObjectMeta) -> ResourceQuota {
        let hard = [
            ("pods", Quantity(self.pods.to_string())),
            ("requests.cpu", (&self.cpu).into()),
            ("limits.cpu", (&self.cpu).into()),
            ("requests.memory", (&self.memory).into()),
            ("limits.memory", (&self.memory).into()),
            ("limits.ephemeral-storage", (&self.storage).into()),
            ("services.nodeports", Quantity("0".to_owned())),
            ("services.loadbalancers", Quantity("0".to_owned())),
        ];
        ResourceQuota {
            metadata,
            spec: Some(ResourceQuotaSpec {
                hard: Some(hard.map(|(name, amount)| (name.to_owned(), amount)).into()),
                ..ResourceQuotaSpec::default()
            }),
            status: None,
        }
    }

    /// What a container gets that does not say.
    pub(super) fn shares(metadata: ObjectMeta) -> LimitRange {
        let container = LimitRangeItem {
            type_: "Container".to_owned(),
            default_request: amounts(&[("cpu", "50m"), ("memory", "128Mi")]),
            default: amounts(&[
                ("cpu", "500m"),
                ("memory", "512Mi"),
                ("ephemeral-storage", "1Gi"),
            ]),
            ..LimitRangeItem::default()
        };
        LimitRange {
            metadata,
            spec: Some(LimitRangeSpec {
                limits: vec![container],
            }),
        }
    }
}

fn amounts(of: &[(&str, &str)]) -> Option<BTreeMap<String, Quantity>> {
    let amount =
        |(name, amount): &(&str, &str)| ((*name).to_owned(), Quantity((*amount).to_owned()));
    Some(of.iter().map(amount).collect())
}
