//! A model of a cluster with the gateway of the chart, two tenants and everybody else, and proof from its
//! policies of who reaches whom.
//!
//! Each side is held to it alone: a tenant's pods are kept in whatever the gateway's policy says, and the
//! gateway's admin port is closed whatever the tenants' policies say.
//!
//! A rule changes its mind only at ports that it names, so each of those and its neighbours stand for
//! all. Every pod is asked about every other end, at every one of its addresses, at every such port, with every protocol.
//! What must be closed is judged as if networks in policies matched pods, and what must be open as if
//! they did not, since plugins differ.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::network::{Blocks, End, Labels, Network, Pod, Port};
use super::rendered::{objects, workload};

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Ends that are no pods of the model, and whether a provider may be there.
const ADDRESSES: &[(&str, &str, bool)] = &[
    ("provider", "203.0.113.9", true),
    ("provider over IPv6", "2001:db8::9", true),
    ("metadata service", "169.254.169.254", false),
    ("metadata service over IPv6", "fd00:ec2::254", false),
    ("API server", "10.0.0.1", false),
    ("API server's Service", "10.96.0.1", false),
    ("node", "192.168.7.4", false),
    ("node over IPv6", "fe80::4", false),
    ("node's DNS cache", "169.254.20.10", false),
    ("machine in the company", "172.20.1.1", false),
    ("carrier's network", "100.64.1.1", false),
    ("loopback", "127.0.0.1", false),
    ("loopback over IPv6", "::1", false),
    ("mapped metadata service", "::ffff:169.254.169.254", false),
    ("this network", "0.0.0.0", false),
    ("protocol assignments", "192.0.0.8", false),
    ("benchmark network", "198.18.0.1", false),
    ("multicast", "224.0.0.1", false),
    ("reserved", "240.0.0.1", false),
];

/// The whole model.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) network: Network,
    pods: Vec<Pod>,
    proxy: u16,
    admin: u16,
    has_redis: bool,
}

fn labels(of: &[(&str, &str)]) -> Labels {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    of.iter().map(owned).collect()
}

fn policies(name: &str) -> impl Iterator<Item = NetworkPolicy> {
    let all = objects(name)
        .iter()
        .filter(|one| one["kind"] == "NetworkPolicy");
    all.map(|one| serde_json::from_value(one.clone()).unwrap())
}

fn is_tenant(pod: &Pod) -> bool {
    ["acme", "globex"].contains(&pod.namespace.as_str())
}

fn is_gateway(pod: &Pod) -> bool {
    pod.name.starts_with("gateway-")
}

/// Whether the policies here are about it; all other pods stay open.
fn is_guarded(pod: &Pod) -> bool {
    is_tenant(pod) || is_gateway(pod)
}

impl Cluster {
    /// With the chart as rendered for `variant`, and the tenants `acme` and `globex`.
    pub(super) fn of(variant: &str) -> Self {
        let mut namespaces = BTreeMap::new();
        for name in ["tollgate", "kube-system", "monitoring", "default"] {
            let own = labels(&[("kubernetes.io/metadata.name", name)]);
            namespaces.insert(name.to_owned(), own);
        }
        let mut all = policies(variant).collect::<Vec<_>>();
        for tenant in ["acme", "globex"] {
            let namespace = objects(tenant)
                .iter()
                .find(|one| one["kind"] == "Namespace");
            let given = namespace.unwrap()["metadata"]["labels"].clone();
            let mut given: Labels = serde_json::from_value(given).unwrap();
            given.extend(labels(&[("kubernetes.io/metadata.name", tenant)]));
            namespaces.insert(tenant.to_owned(), given);
            all.extend(policies(tenant));
        }
        let template = &workload(variant)["spec"]["template"];
        let ports = template["spec"]["containers"][0]["ports"]
            .as_array()
            .unwrap();
        let port = |name: &str| {
            let found = ports.iter().find(|port| port["name"] == name).unwrap();
            u16::try_from(found["containerPort"].as_u64().unwrap()).unwrap()
        };
        let gateway: Labels =
            serde_json::from_value(template["metadata"]["labels"].clone()).unwrap();
        let has_redis = variant == "fleet";
        let (proxy, admin) = (port("proxy"), port("admin"));
        let pods = everybody(&gateway, &[("proxy", proxy), ("admin", admin)]);
        let network = Network {
            namespaces,
            policies: all,
        };
        Self {
            network,
            pods,
            proxy,
            admin,
            has_redis,
        }
    }

    /// Whether `from` is to reach `to` there, which each side that has policies must see to alone.
    fn is_meant(
        &self,
        from: &Pod,
        to: Result<&Pod, &(&str, &str, bool)>,
        Port(protocol, port): Port,
    ) -> bool {
        let dns = matches!(protocol, "TCP" | "UDP") && port == 53;
        let tcp = |number: u16| protocol == "TCP" && port == number;
        let to = match to {
            Ok(to) => to,
            Err(_) if is_tenant(from) => return false,
            Err((_, _, provider)) if is_gateway(from) => return *provider && tcp(443),
            Err(_) => return true,
        };
        if (&from.namespace, &from.name) == (&to.namespace, &to.name) {
            return true;
        }
        if is_tenant(to) {
            return false;
        }
        if is_tenant(from) {
            // Another release's gateway is one, too; its own policies are not looked at here.
            let gateway = is_gateway(to) || to.name == "other-release";
            return (gateway && tcp(self.proxy)) || (to.name == "kube-dns" && dns);
        }
        if is_gateway(to) {
            return from.namespace == "monitoring" && tcp(self.admin);
        }
        if is_gateway(from) {
            return (to.name == "kube-dns" && dns)
                || (self.has_redis && to.name == "valkey" && tcp(6379));
        }
        true
    }

    /// What is open and must not be, or the other way round: the first of it, and what is like it.
    pub(super) fn faults(&self) -> BTreeSet<String> {
        let ports = self.ports();
        let mut faults = BTreeSet::new();
        for from in &self.pods {
            let pods = self.pods.iter().map(|pod| (Ok(pod), pod.addresses.clone()));
            let outside = ADDRESSES
                .iter()
                .map(|one| (Err(one), vec![one.1.parse().unwrap()]));
            for (to, addresses) in pods.chain(outside) {
                for address in addresses {
                    self.compare(from, to, address, &ports, &mut faults);
                }
                if !faults.is_empty() {
                    return faults;
                }
            }
        }
        faults
    }

    fn compare(
        &self,
        from: &Pod,
        to: Result<&Pod, &(&str, &str, bool)>,
        address: IpAddr,
        ports: &BTreeSet<u16>,
        faults: &mut BTreeSet<String>,
    ) {
        let end = to.map_or(End::Address(address), End::Pod);
        let name = to.map_or_else(|one| one.0, |pod| &pod.name);
        let [widest, narrowest] = [Blocks::MatchPods, Blocks::MatchOthersOnly]
            .map(|blocks| self.network.leaves(End::Pod(from), end, address, blocks));
        let guards = [is_guarded(from), to.is_ok_and(is_guarded)];
        for &number in ports {
            for protocol in PROTOCOLS {
                let port = Port(protocol, number);
                let meant = self.is_meant(from, to, port);
                let leaves = if meant { &narrowest } else { &widest };
                for (side, guarded) in guards.into_iter().enumerate() {
                    let open = leaves[side].covers(port, end);
                    if open != (meant || !guarded) {
                        let what = if open { "lets" } else { "does not let" };
                        let whose = ["its own side", "the other side"][side];
                        let from = format!("{}/{}", from.namespace, from.name);
                        faults.insert(format!(
                            "{whose} {what} {from} reach {name} ({address}) at {protocol} {number}"
                        ));
                    }
                }
            }
        }
    }

    /// Ports at which a rule may change its mind, and others of interest.
    fn ports(&self) -> BTreeSet<u16> {
        let mut ports: BTreeSet<u16> = [1, 22, 53, 80, 443, 6379, 10_250, 65_535].into();
        ports.extend([self.proxy, self.admin]);
        for policy in &self.network.policies {
            let policy = serde_json::to_value(policy).unwrap();
            named_ports(&policy, &mut ports);
        }
        let around = |port: &u16| [port.saturating_sub(1), *port, port.saturating_add(1)];
        let all: BTreeSet<u16> = ports.iter().flat_map(around).collect();
        all.into_iter().filter(|port| *port != 0).collect()
    }
}

fn named_ports(value: &Value, ports: &mut BTreeSet<u16>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value.as_u64() {
                    Some(port) if key == "port" || key == "endPort" => {
                        ports.insert(u16::try_from(port).unwrap());
                    }
                    _ => named_ports(value, ports),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| named_ports(item, ports)),
        _ => {}
    }
}

/// All pods, each with an address of either family.
fn everybody(gateway: &Labels, ports: &[(&str, u16)]) -> Vec<Pod> {
    let agent = labels(&[("app.kubernetes.io/name", "example-agent")]);
    let valkey = labels(&[("app.kubernetes.io/name", "valkey")]);
    let dns = labels(&[("k8s-app", "kube-dns")]);
    // Neighbours of the gateway that differ from it in one label.
    let but = |key: &str| {
        let mut labels = gateway.clone();
        let key = format!("app.kubernetes.io/{key}");
        labels.insert(key, "other".to_owned());
        labels
    };
    let (name, component, release) = (but("name"), but("component"), but("instance"));
    let nothing = Labels::new();
    let all = [
        ("tollgate", "gateway-0", gateway),
        ("tollgate", "gateway-1", gateway),
        ("tollgate", "valkey", &valkey),
        ("tollgate", "other-name", &name),
        ("tollgate", "other-component", &component),
        ("tollgate", "other-release", &release),
        ("acme", "agent", &agent),
        ("acme", "unlabelled", &nothing),
        // Labels are the pod's own word: those of the gateway, of DNS and of Redis, in a tenant's namespace.
        ("acme", "false-gateway", gateway),
        ("acme", "false-dns", &dns),
        ("globex", "agent", &agent),
        ("globex", "false-redis", &valkey),
        ("kube-system", "kube-dns", &dns),
        ("kube-system", "other", &nothing),
        ("monitoring", "prometheus", &nothing),
        ("default", "other", &nothing),
        ("default", "false-gateway", gateway),
        ("default", "false-dns", &dns),
    ];
    let pod = |(number, (namespace, name, labels)): (usize, (&str, &str, &Labels))| Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        labels: labels.clone(),
        addresses: [
            format!("10.244.0.{}", number + 1),
            format!("fd00:10::{:x}", number + 1),
        ]
        .iter()
        .map(|address| address.parse().unwrap())
        .collect(),
        ports: ports
            .iter()
            .map(|(name, port)| ((*name).to_owned(), *port))
            .collect(),
    };
    (0..).zip(all).map(pod).collect()
}

/// What a pod of a tenant may reach by address alone: names of `ADDRESSES`, with the ports tried there.
pub(super) fn reached_by_address(tenant: &str, ports: &[u16]) -> BTreeSet<(&'static str, u16)> {
    let network = Network {
        namespaces: BTreeMap::from([(tenant.to_owned(), Labels::new())]),
        policies: policies(tenant).collect(),
    };
    let mut pods = everybody(&Labels::new(), &[]);
    let pod = &mut pods[0];
    tenant.clone_into(&mut pod.namespace);
    let mut reached = BTreeSet::new();
    for (name, address, _) in ADDRESSES {
        let address: IpAddr = address.parse().unwrap();
        let end = End::Address(address);
        let [out, _] = network.leaves(End::Pod(pod), end, address, Blocks::MatchOthersOnly);
        let open = ports
            .iter()
            .filter(|port| out.covers(Port("UDP", **port), end));
        reached.extend(open.map(|port| (*name, *port)));
    }
    reached
}

/// Each way to take one word out of a policy, or to take it away.
pub(super) fn mutations(cluster: &Cluster) -> Vec<(String, Cluster)> {
    let mut mutants = Vec::new();
    for (at, policy) in cluster.network.policies.iter().enumerate() {
        let meta = &policy.metadata;
        if meta.namespace.as_deref() == Some("globex") {
            // Of the same making as acme's.
            continue;
        }
        let name = format!("{:?}/{:?}", meta.namespace, meta.name);
        let mut without = cluster.clone();
        without.network.policies.remove(at);
        mutants.push((format!("{name} is gone"), without));
        let whole = serde_json::to_value(policy).unwrap();
        let mut places = Vec::new();
        pointers(&whole["spec"], "/spec".to_owned(), &mut places);
        for place in places {
            let mut changed = whole.clone();
            let (parent, last) = place.rsplit_once('/').unwrap();
            match changed.pointer_mut(parent).unwrap() {
                Value::Object(members) => drop(members.remove(&last.replace("~1", "/"))),
                Value::Array(items) => drop(items.remove(last.parse().unwrap())),
                _ => unreachable!("only these have members"),
            }
            // What is no policy any more is refused by the API server.
            let needed = ["/cidr", "/key", "/operator"];
            if needed.iter().any(|name| place.ends_with(name)) || is_default(&whole, &place) {
                continue;
            }
            if let Ok(changed) = serde_json::from_value(changed) {
                let mut mutant = cluster.clone();
                mutant.network.policies[at] = changed;
                mutants.push((format!("{name} without {place}"), mutant));
            }
        }
    }
    mutants
}

/// Whether it means the same if it is not said.
fn is_default(policy: &Value, place: &str) -> bool {
    let said = policy.pointer(place).unwrap();
    match place.rsplit('/').next() {
        Some("protocol") => said == "TCP",
        Some("podSelector") if place == "/spec/podSelector" => *said == json!({}),
        Some("policyTypes") => {
            *said == json!(["Ingress", "Egress"]) && !policy["spec"]["egress"].is_null()
        }
        _ => false,
    }
}

fn pointers(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let place = format!("{at}/{}", key.replace('/', "~1"));
                places.push(place.clone());
                pointers(value, place, places);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let place = format!("{at}/{index}");
                places.push(place.clone());
                pointers(item, place, places);
            }
        }
        _ => {}
    }
}
