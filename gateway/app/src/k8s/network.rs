//! Where a tenant's pods may connect: to the gateway's port and to DNS, and from nowhere.
//!
//! Policies judge addresses after a Service has been resolved to a pod, so the port is the one that
//! the gateway's container listens on. Peers are pods by their labels, never networks, which makes
//! the policies mean the same for IPv4 and IPv6; the exception is a DNS cache on the node, which no
//! label reaches. Worst case: a cluster whose network plugin does not enforce policies, where they
//! say what should be and keep nobody from anything.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::Args;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::arguments::{DnsLabel, Label};

/// The label that Kubernetes itself gives each namespace; nobody can give it to another.
const NAME_OF_NAMESPACE: &str = "kubernetes.io/metadata.name";

/// Where gateway and DNS are.
#[derive(Debug, Args)]
pub(super) struct Peers {
    /// The namespace of the gateway
    #[arg(long, value_name = "NAMESPACE", default_value = "tollgate")]
    gateway_namespace: DnsLabel,
    /// A label of the gateway's pods; may be given several times [default: those of the chart]
    #[arg(long, value_name = "KEY=VALUE")]
    gateway_label: Vec<Label>,
    /// The port that the gateway's container listens on, whatever its Service calls it
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    gateway_port: u16,
    /// The namespace of the cluster's DNS
    #[arg(long, value_name = "NAMESPACE", default_value = "kube-system")]
    dns_namespace: DnsLabel,
    /// A label of its pods
    #[arg(long, value_name = "KEY=VALUE", default_value = "k8s-app=kube-dns")]
    dns_label: Label,
    /// The port that its containers listen on
    #[arg(long, value_name = "PORT", default_value_t = 53, value_parser = clap::value_parser!(u16).range(1..))]
    dns_port: u16,
    /// An address of NodeLocal DNSCache, or of the DNS service in front of it; may be given several times
    #[arg(long, value_name = "IP")]
    node_local_dns: Vec<IpAddr>,
}

impl Peers {
    /// Whose that namespace is, if it is one of the peers': closing it would close the way to them.
    pub(super) fn owner_of(&self, namespace: &DnsLabel) -> Option<&'static str> {
        if *namespace == self.gateway_namespace {
            return Some("the gateway's");
        }
        (*namespace == self.dns_namespace).then_some("that of the cluster's DNS")
    }

    /// Nothing in, nothing out; and the two exceptions.
    pub(super) fn policies(&self, metadata: impl Fn(&str) -> ObjectMeta) -> [NetworkPolicy; 3] {
        let both = ["Ingress", "Egress"].map(str::to_owned).to_vec();
        let deny = NetworkPolicySpec {
            policy_types: Some(both),
            ..everybody()
        };
        [
            ("deny-all", deny),
            ("allow-gateway", egress(vec![self.to_gateway()])),
            ("allow-dns", egress(self.to_dns())),
        ]
        .map(|(name, spec)| NetworkPolicy {
            metadata: metadata(name),
            spec: Some(spec),
        })
    }

    fn to_gateway(&self) -> NetworkPolicyEgressRule {
        let of_the_chart = || {
            let labels = [("name", "tollgate"), ("component", "gateway")];
            labels.map(|(key, value)| Label {
                key: format!("app.kubernetes.io/{key}"),
                value: value.to_owned(),
            })
        };
        let labels = match &self.gateway_label[..] {
            [] => of_the_chart().to_vec(),
            given => given.to_vec(),
        };
        NetworkPolicyEgressRule {
            to: Some(vec![pods(&self.gateway_namespace, &labels)]),
            ports: Some(vec![port("TCP", self.gateway_port)]),
        }
    }

    fn to_dns(&self) -> Vec<NetworkPolicyEgressRule> {
        let rule = |to: NetworkPolicyPeer, number: u16| NetworkPolicyEgressRule {
            to: Some(vec![to]),
            ports: Some(vec![port("UDP", number), port("TCP", number)]),
        };
        let labels = std::slice::from_ref(&self.dns_label);
        let mut rules = vec![rule(pods(&self.dns_namespace, labels), self.dns_port)];
        // These are addresses that clients themselves ask, hence always port 53.
        rules.extend(self.node_local_dns.iter().map(|&ip| rule(only(ip), 53)));
        rules
    }
}

/// A policy about every pod of the namespace.
fn everybody() -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(LabelSelector::default()),
        ..NetworkPolicySpec::default()
    }
}

fn egress(rules: Vec<NetworkPolicyEgressRule>) -> NetworkPolicySpec {
    NetworkPolicySpec {
        policy_types: Some(vec!["Egress".to_owned()]),
        egress: Some(rules),
        ..everybody()
    }
}

/// Pods that have all of `labels`, in that namespace.
fn pods(namespace: &DnsLabel, labels: &[Label]) -> NetworkPolicyPeer {
    let selector = |labels: BTreeMap<String, String>| {
        Some(LabelSelector {
            match_labels: Some(labels),
            ..LabelSelector::default()
        })
    };
    let name = (NAME_OF_NAMESPACE.to_owned(), namespace.to_string());
    let labels = labels
        .iter()
        .map(|label| (label.key.clone(), label.value.clone()));
    NetworkPolicyPeer {
        namespace_selector: selector([name].into()),
        pod_selector: selector(labels.collect()),
        ip_block: None,
    }
}

/// One address.
fn only(ip: IpAddr) -> NetworkPolicyPeer {
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: format!("{ip}/{bits}"),
            except: None,
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number.into())),
        end_port: None,
    }
}
