use serde_json::{Value, json};

use super::*;

fn pod(namespace: &str, name: &str, app: &str, address: &str) -> Pod {
    Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        labels: [("app".to_owned(), app.to_owned())].into(),
        addresses: vec![address.parse().unwrap()],
        ports: vec![("http".to_owned(), 80)],
    }
}

fn policy(spec: &Value) -> NetworkPolicy {
    let policy = json!({"metadata": {"name": "p", "namespace": "home"}, "spec": spec});
    serde_json::from_value(policy).unwrap()
}

/// Whether `web` in `home` reaches `db` in `home` and `web` in `away`, and the internet, at this port.
fn reach(specs: &[Value], port: Port) -> [bool; 3] {
    let label = |value: &str| [("team".to_owned(), value.to_owned())].into();
    let network = Network {
        namespaces: [
            ("home".to_owned(), label("a")),
            ("away".to_owned(), label("b")),
        ]
        .into(),
        policies: specs.iter().map(policy).collect(),
    };
    let web = pod("home", "web", "web", "10.0.0.1");
    let (db, other) = (
        pod("home", "db", "db", "10.0.0.2"),
        pod("away", "web", "web", "10.0.1.1"),
    );
    let internet: IpAddr = "203.0.113.9".parse().unwrap();
    let ends = [
        (End::Pod(&db), db.addresses[0]),
        (End::Pod(&other), other.addresses[0]),
        (End::Address(internet), internet),
    ];
    ends.map(|(to, address)| {
        let leaves = network.leaves(End::Pod(&web), to, address, Blocks::MatchOthersOnly);
        leaves.iter().all(|leave| leave.covers(port, to))
    })
}

/// Cases of Kubernetes' own documentation, and the corners between them.
#[test]
fn policies_mean_what_kubernetes_says() {
    let (none, all) = ([false; 3], [true; 3]);
    let http = Port("TCP", 80);
    let egress =
        |rules: Value| json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules});
    let to = |peer: Value| egress(json!([{"to": [peer]}]));
    let db_only = json!({"podSelector": {"matchLabels": {"app": "db"}}});
    let ports = |ports: Value| egress(json!([{"ports": ports}]));
    for (what, specs, port, expected) in [
        ("without a policy all is open", vec![], http, all),
        (
            "deny all egress",
            vec![json!({"podSelector": {}, "policyTypes": ["Egress"]})],
            http,
            none,
        ),
        (
            "without types, egress rules are about egress",
            vec![
                json!({"podSelector": {"matchLabels": {"app": "web"}}, "egress": [{"to": [db_only]}]}),
            ],
            http,
            [true, false, false],
        ),
        (
            "and about ingress, which is then closed",
            vec![json!({"podSelector": {"matchLabels": {"app": "db"}}, "egress": [{}]})],
            http,
            [false, true, true],
        ),
        (
            "without types and egress rules, about ingress",
            vec![json!({"podSelector": {"matchLabels": {"app": "web"}}})],
            http,
            all,
        ),
        (
            "an empty rule allows everything",
            vec![egress(json!([{}]))],
            http,
            all,
        ),
        (
            "an empty list of peers allows everybody",
            vec![egress(json!([{"to": []}]))],
            http,
            all,
        ),
        (
            "pods are of the policy's own namespace",
            vec![to(json!({"podSelector": {}}))],
            http,
            [true, false, false],
        ),
        (
            "namespaces have all their pods",
            vec![to(json!({"namespaceSelector": {}}))],
            http,
            [true, true, false],
        ),
        (
            "both selectors in one peer must fit",
            vec![to(
                json!({"namespaceSelector": {"matchLabels": {"team": "b"}}, "podSelector": {"matchLabels": {"app": "db"}}}),
            )],
            http,
            none,
        ),
        (
            "in two peers, one of them",
            vec![egress(
                json!([{"to": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}, db_only]}]),
            )],
            http,
            [true, true, false],
        ),
        (
            "a block is for what is outside",
            vec![to(json!({"ipBlock": {"cidr": "0.0.0.0/0"}}))],
            http,
            [false, false, true],
        ),
        (
            "less its exceptions",
            vec![to(
                json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.0/24"]}}),
            )],
            http,
            none,
        ),
        (
            "which are networks",
            vec![to(
                json!({"ipBlock": {"cidr": "203.0.113.8/31", "except": ["203.0.113.8/32"]}}),
            )],
            http,
            [false, false, true],
        ),
        (
            "policies add up",
            vec![
                to(json!({"podSelector": {}})),
                to(json!({"ipBlock": {"cidr": "203.0.113.9/32"}})),
            ],
            http,
            [true, false, true],
        ),
        (
            "the protocol is TCP if none is said",
            vec![ports(json!([{"port": 80}]))],
            http,
            all,
        ),
        (
            "and no other",
            vec![ports(json!([{"port": 80}]))],
            Port("UDP", 80),
            none,
        ),
        (
            "a protocol alone has all its ports",
            vec![ports(json!([{"protocol": "UDP"}]))],
            Port("UDP", 53),
            all,
        ),
        (
            "a range has its ends",
            vec![ports(json!([{"port": 70, "endPort": 80}]))],
            http,
            all,
        ),
        (
            "and ends there",
            vec![ports(json!([{"port": 70, "endPort": 79}]))],
            http,
            none,
        ),
        (
            "a name is that of the pod's port",
            vec![ports(json!([{"port": "http"}]))],
            http,
            [true, true, false],
        ),
        (
            "not of another of its ports",
            vec![ports(json!([{"port": "http"}]))],
            Port("TCP", 81),
            none,
        ),
        (
            "an expression fits by absence, too",
            vec![to(
                json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}}),
            )],
            http,
            none,
        ),
        (
            "a key that is there exists",
            vec![to(
                json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}),
            )],
            http,
            [true, false, false],
        ),
        (
            "ingress of the other end counts",
            vec![
                json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}]}),
            ],
            http,
            [false, true, true],
        ),
        (
            "and a policy that selects other pods does not",
            vec![
                json!({"podSelector": {"matchLabels": {"app": "nobody"}}, "policyTypes": ["Ingress", "Egress"]}),
            ],
            http,
            all,
        ),
    ] {
        assert_eq!(reach(&specs, port), expected, "{what}: {specs:?}");
    }
}

#[test]
fn a_pod_reaches_itself_and_blocks_may_match_pods() {
    let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]});
    let network = Network {
        namespaces: [("home".to_owned(), Labels::new())].into(),
        policies: vec![policy(&spec)],
    };
    let (web, db) = (
        pod("home", "web", "web", "10.0.0.1"),
        pod("home", "db", "db", "10.0.0.2"),
    );
    let covers = |to: &Pod, blocks: Blocks| {
        let leaves = network.leaves(End::Pod(&web), End::Pod(to), to.addresses[0], blocks);
        leaves
            .iter()
            .all(|leave| leave.covers(Port("TCP", 1), End::Pod(to)))
    };
    assert!(covers(&web, Blocks::MatchOthersOnly));
    assert!(!covers(&db, Blocks::MatchOthersOnly));
    assert!(covers(&db, Blocks::MatchPods));
}

#[test]
fn networks_hold_the_addresses_of_their_family_and_prefix() {
    for (cidr, address, expected) in [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("0.0.0.0/0", "255.255.255.255", true),
        ("0.0.0.0/0", "::1", false),
        ("169.254.169.254/32", "169.254.169.254", true),
        ("169.254.169.254/32", "169.254.169.255", false),
        ("100.64.0.0/10", "100.127.255.255", true),
        ("100.64.0.0/10", "100.128.0.0", false),
        ("2000::/3", "3fff::1", true),
        ("2000::/3", "fd00::1", false),
        ("fd00::a/128", "fd00::a", true),
    ] {
        assert_eq!(
            is_in(cidr, address.parse().unwrap()),
            expected,
            "{address} in {cidr}"
        );
    }
}
