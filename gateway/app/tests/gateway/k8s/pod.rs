//! The binary as the rendered pods run it: with their arguments, environment, files and probes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tollgate_testkit::issuer::{IssuerKey, key_set};
use tollgate_testkit::wait::eventually;

use super::kubelet::{Files, Kubelet, swap};
use super::rendered::{objects, printed, workload};
use crate::harness::{Ask, Gateway, Site, chat, start_mock};
use crate::token_exchange::claims;

const KEY: &str = "sk-canary-pod-77e0c1";

/// A tenant that may call one provider with a key of its own.
fn tenant(id: &str) -> String {
    format!(
        "[tenant]\nid = \"{id}\"\n[[allow]]\nprovider = \"openai\"\n[credentials]\nopenai_key = {{ provider = \"openai\", default = true }}\n"
    )
}

/// The one container of a gateway, or the named one of an agent's pod.
fn container<'a>(spec: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainers", "containers"].into_iter();
    let mut all = lists.filter_map(|list| spec[list].as_array()).flatten();
    all.find(|container| container["name"] == name).unwrap()
}

fn environment(container: &Value) -> Vec<(&str, &str)> {
    let all = container["env"].as_array().unwrap().iter();
    all.map(|one| {
        (
            one["name"].as_str().unwrap(),
            one["value"].as_str().unwrap(),
        )
    })
    .collect()
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect()
}

/// A gateway that runs as the pod of `fleet` would, less the fleet.
struct Running {
    gateway: Gateway,
    kubelet: Kubelet,
}

async fn running(upstream: &str, issuers: Files) -> Running {
    let site = Site::new();
    fs::remove_dir_all(site.policies()).unwrap();
    let spec = &workload("fleet")["spec"]["template"]["spec"];
    let mut kubelet = Kubelet::at(&site.root().join("pod"), objects("fleet"));
    let secret = |name: &str, text: &str| Files::from([(name.to_owned(), text.to_owned())]);
    kubelet.secrets.extend([
        ("tollgate-acme".to_owned(), secret("openai_key", KEY)),
        ("tollgate-platform".to_owned(), Files::new()),
        ("redis".to_owned(), secret("password", "sk-canary-redis")),
        (
            "tollgate-keys".to_owned(),
            ["issuer.pem", "admins.json", "admin.token"]
                .map(|name| (name.to_owned(), String::new()))
                .into(),
        ),
    ]);
    let vault = kubelet.path("/var/run/tollgate/secrets");
    let maps = &mut kubelet.config_maps;
    maps.insert("tollgate-issuers".to_owned(), issuers);
    maps.insert(
        "tollgate-tenants".to_owned(),
        [("acme.toml".to_owned(), tenant("acme"))].into(),
    );
    let openai = maps
        .get_mut("tollgate-providers")
        .unwrap()
        .get_mut("openai.toml")
        .unwrap();
    let there = "upstream = \"https://api.openai.com\"";
    assert!(openai.contains(there));
    *openai = openai.replace(
        there,
        &format!("upstream = \"{upstream}\"\ninsecure = true"),
    );
    // Other ports, and no Redis: what follows [fleet] is [insecure].
    let settings = maps
        .get_mut("tollgate")
        .unwrap()
        .get_mut("gateway.toml")
        .unwrap();
    let (before, rest) = settings.split_once("[fleet]").unwrap();
    let (_, after) = rest.split_once("[insecure]").unwrap();
    let before = before
        .replace("0.0.0.0:8080", "127.0.0.1:0")
        .replace("0.0.0.0:9090", "127.0.0.1:0");
    *settings = format!("{before}directory = {vault:?}\n[insecure]{after}");

    let container = container(spec, "gateway");
    assert_eq!(words(&container["args"]), ["serve"]);
    kubelet.mount(workload("fleet"), container);
    let variables = environment(container);
    assert_eq!(variables.len(), 3);
    // The harness looks for policies and data where it has its own.
    std::os::unix::fs::symlink(kubelet.path("/etc/tollgate"), site.policies()).unwrap();
    std::os::unix::fs::symlink(kubelet.path("/var/lib/tollgate/data"), site.data()).unwrap();
    fs::create_dir_all(kubelet.path("/var/lib/tollgate/data")).unwrap();
    let inside = |value: &str| {
        let path = value.starts_with('/').then(|| kubelet.path(value));
        path.map_or_else(|| value.to_owned(), |path| path.display().to_string())
    };
    let variables: Vec<(&str, String)> = variables
        .iter()
        .map(|(name, value)| (*name, inside(value)))
        .collect();
    let borrowed: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let gateway = site.serve_with(&borrowed).await;
    Running { gateway, kubelet }
}

/// A sidecar that runs as a rendered pod's does. Killed when dropped.
struct Beside {
    child: Child,
    address: String,
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The sidecar of `variant`, with this service account's token, before this gateway.
fn sidecar(variant: &str, token: &str, gateway: &Gateway) -> Beside {
    let mut all = objects(variant).iter();
    let agent = all
        .find(|one| one["metadata"]["name"] == "example-agent")
        .unwrap();
    let container = container(&agent["spec"]["template"]["spec"], "tollgate");
    let mut kubelet = Kubelet::at(&gateway.site.root().join(variant), &[]);
    let subject = Files::from([("token".to_owned(), token.to_owned())]);
    kubelet.secrets.insert("token".to_owned(), subject);
    kubelet.mount(agent, container);
    assert_eq!(
        environment(container),
        [("TOLLGATE_GATEWAY", "http://tollgate.tollgate.svc:8080")]
    );
    let arguments = words(&container["args"])
        .into_iter()
        .map(|word| match word.split_once("=/") {
            Some((flag, path)) => format!("{flag}={}", kubelet.path(path).display()),
            None => word.replace("127.0.0.1:8080", "127.0.0.1:0"),
        });
    let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(arguments)
        .env("TOLLGATE_GATEWAY", format!("http://{}", gateway.address))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{variant}: {line:?}"));
    let address = said["listening"].as_str().unwrap().to_owned();
    let beside = Beside { child, address };
    for probe in ["startupProbe", "readinessProbe"] {
        let command = words(&container[probe]["exec"]["command"]);
        let (program, arguments) = command.split_first().unwrap();
        assert_eq!(*program, "tollgate");
        let at = |word: &&str| word.replace("127.0.0.1:8080", &beside.address);
        let status = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(arguments.iter().map(at))
            .status()
            .unwrap();
        assert!(status.success(), "{variant}: {probe}");
    }
    beside
}

#[tokio::test]
async fn pods_run_as_rendered_and_follow_their_config_maps() {
    let mock = start_mock().await;
    let key = IssuerKey::es256("k1");
    let issuer = format!(
        "[issuer]\nname = \"kubernetes\"\niss = \"https://kubernetes.default.svc.cluster.local\"\naudience = \"tollgate\"\nalgorithms = [\"ES256\"]\njwks_file = \"issuers/keys.json\"\n{}",
        printed(&["acme", "--policy"])
    );
    let issuers = Files::from([
        ("kubernetes.toml".to_owned(), issuer),
        ("keys.json".to_owned(), key_set(&[&key]).to_string()),
    ]);
    let Running { gateway, kubelet } = running(&format!("http://{}", mock.addr()), issuers).await;
    let spec = &workload("fleet")["spec"]["template"]["spec"];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let asked = &container(spec, "gateway")[probe]["httpGet"];
        assert_eq!(asked["port"], "admin", "{probe}");
        let (status, said) = gateway.admin_get(asked["path"].as_str().unwrap()).await;
        assert_eq!(status, 200, "{probe}: {said}");
    }

    for variant in ["native-sidecar", "sidecar"] {
        let token = key.sign(&claims("acme", "agent"));
        let beside = sidecar(variant, &token, &gateway);
        let ask = Ask::new("POST", "/openai/v1/chat/completions").host(&beside.address);
        let answer = ask
            .bearer("$CRED{openai_key}")
            .json(&chat())
            .send(beside.address.parse().unwrap())
            .await;
        assert_eq!(answer.status, 200, "{variant}: {}", answer.text());
    }
    let bearer = format!("Bearer {KEY}");
    for call in mock.seen() {
        assert_eq!(call.header_values("authorization"), [bearer.as_str()]);
    }
    assert_eq!(mock.seen().len(), 2);

    // A ConfigMap that changes: the kubelet swaps one link.
    let asked = |id: &str| serde_json::json!({"tenant": id, "agent": "a", "task": "t"});
    let minted = async |id: &str| gateway.admin_post("/v1/tokens", &asked(id)).await.0;
    let adopted = async |times: u64| {
        let metric = "tollgate_policy_reloads_total{result=\"adopted\"}";
        eventually("the change is in force", async || {
            gateway.metric(metric).await == times
        })
        .await;
    };
    assert_eq!((minted("acme").await, minted("globex").await), (201, 404));
    let tenants = kubelet.path("/etc/tollgate/tenants");
    let file = |id: &str| (format!("{id}.toml"), tenant(id));
    swap(&tenants, &Files::from([file("acme"), file("globex")]));
    adopted(1).await;
    assert_eq!((minted("acme").await, minted("globex").await), (201, 201));
    let disabled = "[tenant]\nid = \"acme\"\nenabled = false\n".to_owned();
    swap(&tenants, &Files::from([("acme.toml".to_owned(), disabled)]));
    adopted(2).await;
    assert_eq!((minted("acme").await, minted("globex").await), (403, 404));
}

#[test]
fn settings_of_every_kind_of_gateway_are_in_order() {
    for variant in [
        "trial",
        "fleet",
        "deployment",
        "scaled",
        "tls",
        "kv2",
        "everything",
    ] {
        let root = tempfile::tempdir().unwrap();
        let mut kubelet = Kubelet::at(root.path(), objects(variant));
        kubelet.config_maps.insert(
            "more-tenants".to_owned(),
            [(
                "globex.toml".to_owned(),
                "[tenant]\nid = \"globex\"\n".to_owned(),
            )]
            .into(),
        );
        let policies = kubelet.path("/etc/tollgate");
        for (volume, at) in [
            ("-providers", "providers"),
            ("-tenants", "tenants"),
            ("-issuers", "issuers"),
        ] {
            swap(
                &policies.join(at),
                &kubelet.config_maps[&format!("tollgate{volume}")],
            );
        }
        fs::write(
            policies.join("gateway.toml"),
            &kubelet.config_maps["tollgate"]["gateway.toml"],
        )
        .unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["check", "--policies"])
            .arg(&policies)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{variant}: {said}");
    }
}
