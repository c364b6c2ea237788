//! What is elevated, and for whom.

use super::*;
use crate::policy::{Policy, PolicyFile, parse};
use crate::route::find;

const HOST: &str = r#"
[provider]
name = "host"
upstream = "https://host.example"
dialect = "http"

[[endpoint]]
methods = ["GET", "POST", "DELETE"]
path = "/repos/**"
operation = "tool"

[[endpoint]]
method = "DELETE"
path = "/repos/*/branches/*"
operation = "tool"
elevated = true
"#;

fn policy(elevated: &str) -> Policy {
    let tenant = format!("[tenant]\nid = \"acme\"\n[[allow]]\nprovider = \"host\"\n{elevated}");
    let files = [
        ("providers/host.toml", HOST),
        ("tenants/acme.toml", &tenant),
    ];
    let files = files.map(|(path, text)| PolicyFile {
        path: path.to_owned(),
        text: text.to_owned(),
    });
    parse(&files).expect("a policy")
}

/// `None` if it is plain, else which rule lets the agent, from one; zero if none does.
fn elevation(policy: &Policy, agent: &str, method: Method, path: &str) -> Option<usize> {
    let route = find(policy, &method, path).expect("a route");
    let tenant = &policy.tenants["acme"];
    match tenant.elevation(&agent.parse().expect("an agent"), &route, &method) {
        Elevation::Plain => None,
        Elevation::NotGranted => Some(0),
        Elevation::Granted(rule) => {
            let mut rules = tenant.elevated.iter();
            rules.position(|of| std::ptr::eq(of, rule)).map(|at| at + 1)
        }
    }
}

#[test]
fn what_a_provider_marks_is_for_nobody_until_a_tenant_says_for_whom() {
    let (get, delete) = (Method::GET, Method::DELETE);
    let branch = "/host/repos/r/branches/b";
    let none = policy("");
    assert_eq!(elevation(&none, "bot", delete.clone(), branch), Some(0));
    assert_eq!(elevation(&none, "bot", get.clone(), branch), None);
    let some = policy(
        "[[elevated]]\nprovider = \"host\"\nmethods = [\"DELETE\"]\npaths = [\"/repos/*/branches/*\"]\nagents = [\"release-*\"]\n",
    );
    let at = |agent| elevation(&some, agent, delete.clone(), branch);
    assert_eq!((at("release-1"), at("bot")), (Some(1), Some(0)));
    assert_eq!(elevation(&some, "bot", get, branch), None);
    let other = "/host/repos/r/tags/t";
    assert_eq!(elevation(&some, "bot", delete, other), None);
}

#[test]
fn a_table_marks_what_it_covers_for_everybody_and_lets_its_own_agents() {
    let rules = policy(
        r#"
[[elevated]]
provider = "host"
methods = ["POST"]
paths = ["/repos/prod/**"]
agents = ["deploy-*"]

[[elevated]]
provider = "host"
methods = ["POST", "DELETE"]
agents = ["admin"]
"#,
    );
    let at = |agent, method, path| elevation(&rules, agent, method, path);
    let prod = "/host/repos/prod/releases";
    assert_eq!(at("deploy-eu", Method::POST, prod), Some(1));
    assert_eq!(at("admin", Method::POST, prod), Some(2));
    assert_eq!(at("bot", Method::POST, prod), Some(0));
    assert_eq!(at("bot", Method::GET, prod), None);
    let test = "/host/repos/test/releases";
    assert_eq!(at("deploy-eu", Method::POST, test), Some(0));
    assert_eq!(
        at("admin", Method::DELETE, "/host/repos/x/branches/b"),
        Some(2)
    );
}

#[test]
fn a_look_alike_of_a_marked_path_is_marked_and_let_to_nobody() {
    let rules = policy(
        "[[elevated]]\nprovider = \"host\"\npaths = [\"/repos/@prod/**\"]\nagents = [\"*\"]\n",
    );
    let at = |method, path| elevation(&rules, "bot", method, path);
    assert_eq!(at(Method::GET, "/host/repos/@prod/x"), Some(1));
    for path in [
        "/host/repos/%40prod/x",
        "/host/repos/@PROD/x",
        "/host/Repos/@prod/x",
        "/host/repos/%40Prod/x/",
    ] {
        let found = find(&rules, &Method::GET, path);
        if found.is_ok() {
            assert_eq!(at(Method::GET, path), Some(0), "{path}");
        }
    }
    let none = policy("");
    for path in [
        "/host/repos/r/branches/b",
        "/host/repos/r/Branches/b",
        "/host/repos/r/BRANCHES/b",
    ] {
        let found = elevation(&none, "bot", Method::DELETE, path);
        assert_eq!(found, Some(0), "the provider's own mark is as wide: {path}");
    }
}
