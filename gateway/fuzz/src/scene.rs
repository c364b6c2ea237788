//! One tenant with a credential in each place, for the targets that need a policy.

use std::sync::LazyLock;

use tollgate_core::ids::AgentId;
use tollgate_core::policy::{Policy, PolicyFile, Provider, Tenant, parse};

/// The secret that is put into requests. Inputs that hold it are not judged.
pub(crate) const SECRET: &str = "sk-\"canary\\/7f3a";

/// The providers, each with a credential `named` for it that is not its default.
pub(crate) const PROVIDERS: [&str; 6] = ["header", "bearer", "basic", "query", "json", "form"];

const PLACES: [&str; 6] = [
    "{ header = \"x-key\" }",
    "{ header = \"authorization\", prefix = \"Bearer \" }",
    "{ basic = true }",
    "{ query = \"key\" }",
    "{ json_field = \"/auth/key\" }",
    "{ form_field = \"key\" }",
];

/// The policy of all targets.
pub(crate) fn policy() -> &'static Policy {
    static POLICY: LazyLock<Policy> = LazyLock::new(|| {
        let mut files = Vec::new();
        let mut tenant = "[tenant]\nid = \"acme\"\n".to_owned();
        let mut credentials = "[credentials]\n".to_owned();
        for (name, place) in PROVIDERS.iter().zip(PLACES) {
            files.push(PolicyFile {
                path: format!("providers/{name}.toml"),
                text: format!(
                    "[provider]\nname = \"{name}\"\ndialect = \"http\"\nupstream = \"https://{name}.test\"\nplace = {place}\n\n[[endpoint]]\nmethods = [\"GET\", \"POST\"]\npath = \"/v1/**\"\noperation = \"tool\"\n"
                ),
            });
            tenant.push_str(&format!("[[allow]]\nprovider = \"{name}\"\n"));
            credentials.push_str(&format!(
                "own-{name} = {{ provider = \"{name}\", default = true }}\nnamed-{name} = {{ provider = \"{name}\" }}\n"
            ));
        }
        files.push(PolicyFile {
            path: "tenants/acme.toml".to_owned(),
            text: format!("{tenant}{credentials}"),
        });
        parse(&files).expect("a policy")
    });
    &POLICY
}

/// The one tenant.
pub(crate) fn tenant() -> &'static Tenant {
    &policy().tenants["acme"]
}

/// The provider whose place the first byte of the input says.
pub(crate) fn provider(choice: u8) -> &'static Provider {
    let name = PROVIDERS[usize::from(choice) % PROVIDERS.len()];
    &policy().providers[name]
}

/// The agent of all calls.
pub(crate) fn agent() -> AgentId {
    "a1".parse().expect("an agent")
}
