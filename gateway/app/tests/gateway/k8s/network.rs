//! What network policies mean (networking.k8s.io/v1), for a model of a cluster.
//!
//! A connection needs the leave of both ends. An end that no policy selects for that direction is open;
//! one that is selected takes what any rule of any policy allows, and nothing else. A pod reaches
//! itself whatever policies say. Host-network pods are addresses to policies, and beyond them.
//! Source: <https://kubernetes.io/docs/concepts/services-networking/network-policies/>.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub(super) type Labels = BTreeMap<String, String>;

/// A pod with a network of its own.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: Labels,
    pub(super) addresses: Vec<IpAddr>,
    /// Its named ports.
    pub(super) ports: Vec<(String, u16)>,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum End<'a> {
    Pod(&'a Pod),
    /// A node, a host-network pod, something outside of the cluster.
    Address(IpAddr),
}

/// A port and its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port(pub(super) &'static str, pub(super) u16);

/// Whether networks in policies match addresses of pods, too. Kubernetes leaves that to the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocks {
    MatchPods,
    MatchOthersOnly,
}

/// Namespaces by name, with their labels, and the policies in them.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) namespaces: BTreeMap<String, Labels>,
    pub(super) policies: Vec<NetworkPolicy>,
}

/// What one end grants the other: everything, or the ports of some rules.
#[derive(Debug)]
pub(super) enum Leave<'a> {
    Open,
    Ports(Vec<&'a [NetworkPolicyPort]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl Network {
    /// What `from` may connect to at `address` of `to`: the leave of the one and of the other.
    pub(super) fn leaves<'a>(
        &'a self,
        from: End<'_>,
        to: End<'_>,
        address: IpAddr,
        blocks: Blocks,
    ) -> [Leave<'a>; 2] {
        if let (End::Pod(from), End::Pod(to)) = (from, to)
            && (&from.namespace, &from.name) == (&to.namespace, &to.name)
        {
            return [Leave::Open, Leave::Open];
        }
        let seen_from = |end: End<'_>, towards: IpAddr| match end {
            End::Address(address) => address,
            End::Pod(pod) => {
                let mut same = pod
                    .addresses
                    .iter()
                    .filter(|one| one.is_ipv4() == towards.is_ipv4());
                *same.next().unwrap_or(&pod.addresses[0])
            }
        };
        let source = seen_from(from, address);
        [
            self.leave(from, to, address, Way::Out, blocks),
            self.leave(to, from, source, Way::In, blocks),
        ]
    }

    fn leave(
        &self,
        of: End<'_>,
        other: End<'_>,
        address: IpAddr,
        way: Way,
        blocks: Blocks,
    ) -> Leave<'_> {
        let End::Pod(pod) = of else {
            return Leave::Open;
        };
        let mut isolated = false;
        let mut granted = Vec::new();
        for policy in &self.policies {
            let spec = policy.spec.as_ref().unwrap();
            let namespace = policy.metadata.namespace.as_deref().unwrap_or("default");
            let selects = namespace == pod.namespace
                && spec
                    .pod_selector
                    .as_ref()
                    .is_none_or(|all| selects(all, &pod.labels));
            let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
            let about_it = match &spec.policy_types {
                Some(ways) if !ways.is_empty() => {
                    let name = if way == Way::In { "Ingress" } else { "Egress" };
                    ways.iter().any(|way| way == name)
                }
                _ => way == Way::In || has_egress,
            };
            if !selects || !about_it {
                continue;
            }
            isolated = true;
            let peers = |peers: &Option<Vec<NetworkPolicyPeer>>| match peers.as_deref() {
                None | Some([]) => true,
                Some(peers) => peers
                    .iter()
                    .any(|peer| self.is_peer(peer, namespace, other, address, blocks)),
            };
            let nothing = &[][..];
            if way == Way::In {
                for rule in spec
                    .ingress
                    .iter()
                    .flatten()
                    .filter(|rule| peers(&rule.from))
                {
                    granted.push(rule.ports.as_deref().unwrap_or(nothing));
                }
            } else {
                for rule in spec.egress.iter().flatten().filter(|rule| peers(&rule.to)) {
                    granted.push(rule.ports.as_deref().unwrap_or(nothing));
                }
            }
        }
        if isolated {
            Leave::Ports(granted)
        } else {
            Leave::Open
        }
    }

    fn is_peer(
        &self,
        peer: &NetworkPolicyPeer,
        home: &str,
        end: End<'_>,
        address: IpAddr,
        blocks: Blocks,
    ) -> bool {
        if let Some(block) = &peer.ip_block {
            let concerned = blocks == Blocks::MatchPods || matches!(end, End::Address(_));
            return concerned && is_in_block(block, address);
        }
        let End::Pod(pod) = end else {
            return false;
        };
        let labels = &self.namespaces[&pod.namespace];
        let namespace = match &peer.namespace_selector {
            Some(selector) => selects(selector, labels),
            None => peer.pod_selector.is_some() && pod.namespace == home,
        };
        namespace
            && peer
                .pod_selector
                .as_ref()
                .is_none_or(|all| selects(all, &pod.labels))
    }
}

impl Leave<'_> {
    /// Whether it covers a port of `to`, by whose names a policy may call it.
    pub(super) fn covers(&self, port: Port, to: End<'_>) -> bool {
        let Leave::Ports(rules) = self else {
            return true;
        };
        rules
            .iter()
            .any(|ports| ports.is_empty() || ports.iter().any(|one| is_port(one, port, to)))
    }
}

fn is_port(rule: &NetworkPolicyPort, Port(protocol, number): Port, to: End<'_>) -> bool {
    let same = rule.protocol.as_deref().unwrap_or("TCP") == protocol;
    let matches = match &rule.port {
        None => true,
        Some(IntOrString::Int(first)) => {
            let last = rule.end_port.unwrap_or(*first);
            (*first..=last).contains(&i32::from(number))
        }
        Some(IntOrString::String(name)) => match to {
            End::Pod(pod) => pod
                .ports
                .iter()
                .any(|(known, at)| known == name && *at == number),
            End::Address(_) => false,
        },
    };
    same && matches
}

/// Whether a selector fits labels. An empty one fits all.
fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|wanted| {
            let value = labels.get(&wanted.key);
            let among = |value: &String| wanted.values.iter().flatten().any(|one| one == value);
            match wanted.operator.as_str() {
                "In" => value.is_some_and(among),
                "NotIn" => !value.is_some_and(among),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                other => panic!("no operator of selectors: {other}"),
            }
        })
}

fn is_in_block(block: &IPBlock, address: IpAddr) -> bool {
    let mut without = block.except.iter().flatten();
    is_in(&block.cidr, address) && !without.any(|cidr| is_in(cidr, address))
}

fn is_in(cidr: &str, address: IpAddr) -> bool {
    let (network, bits) = cidr.split_once('/').expect("NETWORK/BITS");
    let network: IpAddr = network.parse().expect("an address");
    let bits: u32 = bits.parse().expect("a number of bits");
    let (width, network, address) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (32, network.to_bits().into(), address.to_bits().into())
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (128, network.to_bits(), address.to_bits()),
        _ => return false,
    };
    assert!(bits <= width, "{cidr}");
    let differ: u128 = network ^ address;
    bits == 0 || differ >> (width - bits) == 0
}

#[cfg(test)]
mod tests;
