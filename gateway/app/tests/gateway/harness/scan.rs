//! No output of a gateway under test holds a secret: looked for in everything that it leaves.
//!
//! Every test takes part without doing anything. What is put into a vault is remembered by its
//! [`Site`], and looked for in what commands print, in the admin API's answers, and at a process's
//! end in its log, its standard output, its metrics and every file of its data directory. Answers
//! to agents are looked through where they are read. Task tokens are found by their form.
//!
//! What only a provider sees is the provider's and not looked at.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Map, Value};
use tollgate_testkit::canary::{Lookout, token};
use tollgate_testkit::raw::Answer;

use super::world::key;

/// Shorter secrets are not looked for: they stand in any text by chance.
const SHORTEST: usize = 8;

/// What is secret in values that are JSON.
const SECRET_MEMBERS: [&str; 5] = [
    "client_secret",
    "private_key",
    "refresh_token",
    "secret_access_key",
    "session_token",
];

/// Longer bodies of answers are looked through at their beginning: those are made of one letter.
const MOST_OF_A_BODY: usize = 1 << 20;

/// The secrets of a site.
#[derive(Default)]
pub(crate) struct Secrets {
    known: Mutex<Known>,
}

/// The secrets, and what looks for them: made anew only when there is one more, since that takes
/// longer than most looks.
#[derive(Default)]
struct Known {
    secrets: BTreeSet<String>,
    lookout: Option<Arc<Lookout>>,
}

/// Whether a task token may stand in an output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// It is what was asked for.
    Asked,
    /// It may not.
    Never,
}

impl Secrets {
    /// Looks for `secret` from now on.
    pub(crate) fn watch(&self, secret: &str) {
        if secret.trim().len() >= SHORTEST {
            let mut known = self.known.lock().unwrap();
            if known.secrets.insert(secret.trim().to_owned()) {
                known.lookout = None;
            }
        }
    }

    /// Notes what a command line puts into a vault: the whole of it, and of JSON each secret in it.
    pub(super) fn learn(&self, arguments: &[&str], input: &str) {
        if !matches!(arguments, ["secret", "set" | "rotate", ..]) {
            return;
        }
        self.watch(input);
        let members: Map<String, Value> = serde_json::from_str(input).unwrap_or_default();
        for name in SECRET_MEMBERS {
            if let Some(secret) = members.get(name).and_then(Value::as_str) {
                self.watch(secret);
            }
        }
    }

    /// Fails if `output` holds a secret.
    #[track_caller]
    pub(crate) fn check(&self, what: &str, output: &[u8], tokens: Tokens) {
        check(&self.lookout(), what, output, tokens);
    }

    fn lookout(&self) -> Arc<Lookout> {
        let mut known = self.known.lock().unwrap();
        let Known { secrets, lookout } = &mut *known;
        let made = || Arc::new(Lookout::new(secrets.iter().map(String::as_str)));
        Arc::clone(lookout.get_or_insert_with(made))
    }

    /// Fails if a file under `directory` holds a secret. The vault's are among them: what is in
    /// there is encrypted.
    pub(super) fn check_files(&self, directory: &Path) {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.check_files(&path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                self.check(&path.display().to_string(), &bytes, Tokens::Never);
            }
        }
    }
}

/// Fails if an agent is told one of the usual keys.
#[track_caller]
pub(super) fn check_answer(answer: &Answer) {
    static USUAL: OnceLock<Lookout> = OnceLock::new();
    let usual = USUAL.get_or_init(|| {
        let providers = ["openai", "anthropic", "github", "gemini", "bedrock"];
        let keys = ["acme", "globex"]
            .iter()
            .flat_map(|tenant| providers.map(|provider| key(tenant, provider)))
            .collect::<Vec<_>>();
        Lookout::new(keys.iter().map(String::as_str))
    });
    for (name, value) in &answer.headers {
        check(
            usual,
            &format!("the header {name} of an answer"),
            value.as_bytes(),
            Tokens::Asked,
        );
    }
    let start = &answer.body[..answer.body.len().min(MOST_OF_A_BODY)];
    check(usual, "the body of an answer", start, Tokens::Asked);
}

#[track_caller]
fn check(lookout: &Lookout, what: &str, output: &[u8], tokens: Tokens) {
    let seen = lookout.sightings(output);
    assert!(seen.is_empty(), "a secret is in {what}: {seen:#?}");
    if tokens == Tokens::Never
        && let Some(context) = token(output)
    {
        panic!("a task token is in {what}: {context}");
    }
}

/// The metrics of a process that may have ended: then there are none.
pub(super) fn metrics(admin: SocketAddr) -> Vec<u8> {
    let mut said = Vec::new();
    let patience = Duration::from_secs(2);
    if let Ok(mut stream) = TcpStream::connect_timeout(&admin, patience) {
        let asked = "GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n";
        drop(stream.set_read_timeout(Some(patience)));
        drop(stream.write_all(asked.as_bytes()));
        drop(stream.read_to_end(&mut said));
    }
    said
}
