//! Metrics, dashboards and rules against a real Prometheus: what is documented is served, what is
//! asked for is answered, and each alert fires when it should.

mod files;
mod load;
mod prometheus;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tollgate_testkit::raw::{Raw, request};
use tollgate_testkit::redis::Server;
use tollgate_testkit::wait::eventually;

use crate::harness::{Ask, Gateway, Plan, Site, World, chat};
use files::{Query, dashboards, queries, repository, rules, text};
use load::Load;
use prometheus::Prometheus;

/// How long every panel may take to be filled: samples have to be taken first.
const PATIENCE: Duration = Duration::from_secs(90);

/// Type and labels by name.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

/// What a gateway serves to whoever shows this credential.
async fn served(gateway: &Gateway, credential: &str) -> (Families, String) {
    let bearer = format!("Bearer {credential}");
    let mut raw = Raw::connect(gateway.admin).await;
    let headers = [("host", "admin"), ("authorization", bearer.as_str())];
    raw.send(request("GET /metrics", &headers, b"")).await;
    let answer = raw.answer().await.expect("metrics");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    let mut families = Families::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) {
            name.clone_into(&mut current);
            families.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if let (false, Some((_, labels))) = (line.starts_with('#'), line.split_once('{')) {
            let (labels, _) = labels.rsplit_once('}').expect("labels end");
            let family = families.get_mut(&current).expect("a type comes first");
            let named = labels
                .split("\",")
                .filter_map(|label| label.split_once('='));
            let named = named.map(|(label, _)| label.to_owned());
            family.1.extend(named.filter(|label| label != "le"));
        }
    }
    (families, text)
}

/// What the manual says is served.
fn documented() -> Families {
    let mut families = Families::new();
    for row in text("docs/metrics.md").lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, name, kind, labels, what, ..] = cells[..] else {
            continue;
        };
        let Some(name) = name
            .strip_prefix('`')
            .and_then(|name| name.strip_suffix('`'))
        else {
            continue;
        };
        if !["counter", "gauge", "histogram"].contains(&kind) {
            continue;
        }
        assert!(!what.is_empty(), "{name} is not explained");
        let labels = labels.split(',').map(|label| label.trim().replace('`', ""));
        let labels = labels.filter(|label| !label.is_empty()).collect();
        let twice = families.insert(name.to_owned(), (kind.to_owned(), labels));
        assert!(twice.is_none(), "{name} stands there twice");
    }
    families
}

/// A reader's credential, made as an operator makes it.
fn reader(site: &Site) -> String {
    let made = ["admin", "add", "--role", "metrics", "--name", "prometheus"];
    site.cli_ok(&made, "").trim().to_owned()
}

/// A gateway that hands records on, and one of a fleet.
struct Scene {
    world: World,
    member: Gateway,
    credential: String,
    _redis: Server,
    _dirs: [TempDir; 2],
}

impl Scene {
    async fn set() -> Self {
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let [store, shared] = &dirs;
        let world = World::planned(|plan| {
            let url = store.path().display();
            // Nobody listens at the collector's address.
            plan.gateway = format!(
                "[records.store]\nurl = \"file://{url}\"\n\
                 [records.otlp]\nendpoint = \"https://127.0.0.1:1\"\nprotocol = \"grpc\"\n\
                 [traces]\nendpoint = \"https://127.0.0.1:1\"\nprotocol = \"grpc\"\n"
            );
            load::plan(plan);
        })
        .await;
        let redis = Server::start(&[]);
        let member = member(&world, redis.port(), shared).serve().await;
        eventually("the fleet is open", async || {
            member.admin_get("/readyz").await.0 == 200
        })
        .await;
        Self {
            credential: reader(&world.gateway.site),
            world,
            member,
            _redis: redis,
            _dirs: dirs,
        }
    }

    /// What Prometheus is told: both gateways, often, and the rules as they are.
    fn settings(&self) -> String {
        let rules = dashboards().join("rules");
        let (one, other) = (self.world.gateway.admin, self.member.admin);
        let (rules, credential) = (rules.display(), &self.credential);
        format!(
            "global: {{ scrape_interval: 500ms, evaluation_interval: 2s }}\n\
             rule_files: [\"{rules}/*.yml\"]\n\
             scrape_configs:\n\
             - job_name: tollgate\n  \
               authorization: {{ credentials: {credential} }}\n  \
               static_configs: [{{ targets: [\"{one}\"] }}]\n\
             - job_name: fleet\n  \
               static_configs: [{{ targets: [\"{other}\"], labels: {{ job: tollgate }} }}]\n"
        )
    }
}

/// The files of a replica, before the same provider.
fn member(world: &World, redis: u16, shared: &TempDir) -> Arc<Site> {
    let mut plan = Plan::at(world.mock.addr());
    plan.gateway = format!(
        "[metrics]\nopen = \"all\"\n[fleet]\nredis = \"single\"\nnodes = [\"127.0.0.1:{redis}\"]\n\
         max_wait_ms = 5000\nshared_dir = \"{}\"\n",
        shared.path().display()
    );
    load::plan(&mut plan);
    let site = Site::new();
    // The harness looks for keys where a gateway without a fleet has them.
    std::fs::create_dir_all(shared.path().join("keys")).unwrap();
    std::fs::create_dir_all(site.data()).unwrap();
    symlink(shared.path().join("keys"), site.data().join("keys")).unwrap();
    plan.write(&site);
    site
}

/// The expression as Grafana would send it.
fn filled(expression: &str) -> String {
    expression
        .replace("$__rate_interval", "10s")
        .replace("$__range", "1m")
        .replace("$instance", ".*")
        .replace("$tenant", "acme")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_documented_is_served_and_every_panel_and_rule_tells_something() {
    let scene = Scene::set().await;
    let prometheus = Prometheus::start(&scene.settings()).await;
    eventually("both gateways are scraped", async || {
        let up = prometheus.query("up == 1").await.expect("an answer");
        up.len() == 2
    })
    .await;
    let loads = [&scene.world.gateway, &scene.member];
    let loads = [Load::on(loads[0]).await, Load::on(loads[1]).await];
    let (started, mut open) = (Instant::now(), asked());
    while !open.is_empty() {
        tokio::join!(loads[0].round(), loads[1].round());
        let mut empty = Vec::new();
        for query in open {
            let values = prometheus.query(&filled(&query.expression)).await;
            let values = values.unwrap_or_else(|error| panic!("{}: {error}", query.at));
            if !values.iter().any(|value| !value.is_nan()) {
                empty.push(query);
            }
        }
        open = empty;
        assert!(started.elapsed() < PATIENCE, "these stay empty: {open:#?}");
    }
    for (name, health, error) in prometheus.rules().await {
        assert_eq!(health, "ok", "{name}: {error}");
    }
    the_table_is_what_they_serve(&scene).await;
}

/// Everything that has to tell something: panels, recorded figures, the metrics that alerts look
/// at, and the alerts that this load sets off.
fn asked() -> Vec<Query> {
    let mut asked = queries();
    assert!(asked.len() > 80, "{} queries", asked.len());
    let recorded = rules("recording.yml", "record");
    let figures = recorded.keys().map(|name| (name.clone(), name.clone()));
    let metrics = rules("alerts.yml", "alert").into_iter();
    let metrics = metrics.flat_map(|(alert, expression)| {
        let names = files::names(&expression).into_iter();
        names.map(move |name| (alert.clone(), format!("count({name})")))
    });
    let fired = ["TollgateScrubHit", "TollgateElevatedRefused"];
    let fired = fired.map(|name| {
        let alert = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"}}");
        (name.to_owned(), alert)
    });
    let more = figures.chain(metrics).chain(fired);
    asked.extend(more.map(|(at, expression)| Query { at, expression }));
    asked
}

async fn the_table_is_what_they_serve(scene: &Scene) {
    let gateway = &scene.world.gateway;
    let (mut all, _) = served(gateway, &scene.credential).await;
    let (_, open) = gateway.admin_get("/metrics").await;
    assert!(!open.contains("tenant="), "tenants are not for everybody");
    let operator = std::fs::read_to_string(scene.member.site.data().join("keys/admin.token"));
    let (fleet, _) = served(&scene.member, operator.expect("a token").trim()).await;
    let of_fleets: Vec<_> = fleet
        .keys()
        .filter(|name| !all.contains_key(*name))
        .collect();
    let only = of_fleets
        .iter()
        .all(|name| name.starts_with("tollgate_fleet_"));
    assert!(!of_fleets.is_empty() && only, "{of_fleets:?}");
    all.extend(fleet);
    let documented = documented();
    for (name, family) in &all {
        assert_eq!(
            documented.get(name),
            Some(family),
            "{name} in docs/metrics.md"
        );
    }
    let known: BTreeSet<_> = all.keys().collect();
    let gone: Vec<_> = documented
        .keys()
        .filter(|name| !known.contains(name))
        .collect();
    assert!(gone.is_empty(), "documented and not served: {gone:?}");
}

#[tokio::test]
async fn no_word_of_a_client_becomes_a_label_and_tenants_are_as_many_as_is_said() {
    let world = World::planned(|plan| {
        plan.gateway = "[metrics]\ntenants = 1\nopen = \"all\"\n".to_owned();
        plan.tenant("globex").caps = String::new();
    })
    .await;
    let token = world
        .gateway
        .mint("globex", "evil-agent", "evil-task")
        .await;
    let mut body = chat();
    body["model"] = "evil-model".into();
    body["user"] = "evil-user".into();
    let call = |target: &str| {
        Ask::new("POST", target)
            .json(&body)
            .header("x-tenant-id", "evil")
    };
    for (target, status) in [
        ("/openai/v1/chat/completions?tenant=evil", 200),
        ("/evil/v1/chat", 403),
        ("/openai/v1/evil", 403),
    ] {
        let answer = world.send(&call(target).bearer(&token)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert_eq!(
        world.send(&call("/evil").bearer("evil-token")).await.status,
        401
    );
    let rich = Ask::new("POST", "/openai/v1/chat/completions").json(&chat());
    let rich = rich.bearer(&world.token("acme").await);
    assert_eq!(world.send(&rich).await.status, 200);
    let mut seen = String::new();
    eventually("the richer tenant is shown", async || {
        seen = world.gateway.admin_get("/metrics").await.1;
        seen.contains("tollgate_tenant_spend_nano_usd_total{tenant=\"acme\"}")
    })
    .await;
    assert!(!seen.contains("evil"), "{seen}");
    assert!(
        !seen.contains("tenant=\"globex\""),
        "one tenant has a place"
    );
    assert!(seen.contains("tollgate_tenant_calls_total{outcome=\"completed\",tenant=\"_other\"}"));
    assert!(
        seen.contains("gen_ai_request_model=\"other\""),
        "a model without a price"
    );
    assert!(
        seen.contains("tollgate_identity_claims_total{claim=\"x-tenant-id\"} 4"),
        "{seen}"
    );
}

/// Runs `promtool` in `dashboards/`.
fn promtool(arguments: &[&str]) {
    let mut command = Command::new("promtool");
    let output = command.args(arguments).current_dir(dashboards()).output();
    let output = output.expect("promtool is installed");
    assert!(
        output.status.success(),
        "promtool {arguments:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_alert_has_a_test_of_when_it_fires_and_when_not_and_a_section_of_its_own() {
    promtool(&["check", "config", "prometheus.yml"]);
    let tests = ["rules/tests/alerts_test.yml", "rules/tests/prices_test.yml"];
    promtool(&["test", "rules", tests[0], tests[1]]);
    let tested = tests
        .map(|file| text(&format!("dashboards/{file}")))
        .concat();
    let lines: Vec<&str> = tested.lines().map(str::trim).collect();
    let runbooks = text("docs/runbooks.md");
    let told = text("dashboards/rules/alerts.yml");
    let alerts = rules("alerts.yml", "alert");
    assert!(alerts.len() >= 30, "{}", alerts.len());
    for (alert, expression) in &alerts {
        let expected = |then: &str| {
            let named = format!("alertname: {alert}");
            lines
                .windows(2)
                .any(|pair| pair[0] == named && pair[1] == then)
        };
        assert!(expected("exp_alerts:"), "{alert} is not seen to fire");
        assert!(
            expected("exp_alerts: []"),
            "{alert} is not seen not to fire"
        );
        assert!(
            runbooks.contains(&format!("\n## {alert}\n")),
            "{alert} has no runbook"
        );
        let link = format!("docs/runbooks.md#{}\n", alert.to_lowercase());
        assert!(told.contains(&link), "{alert} does not lead to its runbook");
        let recorded = rules("recording.yml", "record");
        for word in expression.split(|c: char| !(c.is_alphanumeric() || "_:".contains(c))) {
            let known = !word.starts_with("tollgate:") || recorded.contains_key(word);
            assert!(known, "{alert}: nobody records {word}");
        }
    }
    for field in ["severity: ", "summary: ", "description: "] {
        assert_eq!(told.matches(field).count(), alerts.len(), "{field}");
    }
}

#[test]
fn a_dashboard_can_be_provisioned_and_explains_itself() {
    let mut uids = BTreeSet::new();
    for name in files::DASHBOARDS {
        let dashboard = files::dashboard(name);
        let uid = dashboard["uid"].as_str().expect("an id");
        assert!(uids.insert(uid.to_owned()), "{name}: another has its id");
        assert!(dashboard["schemaVersion"].as_u64() >= Some(39), "{name}");
        let source = &dashboard["templating"]["list"][0];
        assert_eq!(
            (source["name"].as_str(), source["type"].as_str()),
            (Some("source"), Some("datasource"))
        );
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in dashboard["panels"].as_array().expect("panels") {
            let at = format!("{name}: {}", panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{at}");
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|k| panel["gridPos"][k].as_u64().expect("a place"));
            assert!(x + w <= 24 && h > 0, "{at} is beside the grid");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{at} lies on another");
            }
            if panel["type"] == "row" {
                continue;
            }
            assert_eq!(panel["datasource"]["uid"], "${source}", "{at}");
            assert!(
                panel["description"]
                    .as_str()
                    .is_some_and(|text| text.len() > 10),
                "{at}"
            );
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{at}");
        }
    }
    for file in ["datasources/prometheus.yml", "dashboards/tollgate.yml"] {
        let file = repository()
            .join("dashboards/grafana/provisioning")
            .join(file);
        assert!(file.is_file(), "{}", file.display());
    }
}
