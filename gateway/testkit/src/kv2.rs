//! A server that behaves as the documented HTTP API of `HashiCorp` Vault and `OpenBao` does, as far
//! as reading KV v2 secrets goes, and keeps who asked for what.
//!
//! After <https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2> (a read is
//! `GET /v1/{mount}/data/{path}`; a deleted or destroyed version is 404 with its metadata and no
//! data; what never was is 404 with an empty list of errors),
//! <https://developer.hashicorp.com/vault/api-docs/auth/kubernetes> and `.../auth/approle` (a login
//! gives `auth.client_token` and `auth.lease_duration`), and
//! <https://developer.hashicorp.com/vault/api-docs#http-status-codes> (403 denied, 503 sealed).
//!
//! A role called `tollgate-x` may read `tollgate/x/` and nothing else, whoever asks: the separation
//! is this server's, as it is in an installation. One request a connection is answered at a time;
//! requests have a `content-length` or no body.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::raw::find;

/// What the server is made to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    Well,
    /// It is sealed.
    Sealed,
    /// It takes requests and never answers.
    Silent,
}

/// A read that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The role that the token was given to; `None` for a token that was never given.
    pub role: Option<String>,
    /// The path behind the mount.
    pub path: String,
    /// What it was answered with.
    pub status: u16,
}

struct State {
    mood: Mood,
    jwt: String,
    lease_seconds: u64,
    tokens: BTreeMap<String, String>,
    logins: Vec<String>,
    secrets: BTreeMap<String, Vec<Option<String>>>,
    asked: Vec<Asked>,
    given: u64,
}

/// The server. Stops when dropped.
pub struct Kv2Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl Kv2Server {
    /// Listens in clear. Pods prove themselves with `jwt`, which is good for every role.
    pub async fn start(jwt: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Well,
            jwt: jwt.to_owned(),
            lease_seconds: 3600,
            tokens: BTreeMap::new(),
            logins: Vec::new(),
            secrets: BTreeMap::new(),
            asked: Vec::new(),
            given: 0,
        }));
        let accepting = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&state)));
                }
            }
        });
        Self {
            address,
            state,
            accepting,
        }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Writes the next version of the secret at `path`.
    pub fn put(&self, path: &str, value: &str) {
        let mut state = self.state();
        let versions = state.secrets.entry(path.to_owned()).or_default();
        versions.push(Some(value.to_owned()));
    }

    /// Deletes the current version of the secret at `path`.
    pub fn delete(&self, path: &str) {
        let mut state = self.state();
        *state.secrets.get_mut(path).unwrap().last_mut().unwrap() = None;
    }

    /// Makes it answer otherwise from now on.
    pub fn set_mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// The lease of tokens given from now on.
    pub fn set_lease_seconds(&self, seconds: u64) {
        self.state().lease_seconds = seconds;
    }

    /// Lets no token given so far be good any longer.
    pub fn revoke_tokens(&self) {
        self.state().tokens.clear();
    }

    /// Gives a token for a role without a login, as an agent beside the gateway would.
    #[must_use]
    pub fn give_token(&self, role: &str) -> String {
        give(&mut self.state(), role)
    }

    /// The roles that have logged in, in order.
    #[must_use]
    pub fn logins(&self) -> Vec<String> {
        self.state().logins.clone()
    }

    /// The reads asked for, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// The roles that have asked for anything below `path`.
    #[must_use]
    pub fn roles_at(&self, path: &str) -> BTreeSet<Option<String>> {
        let asked = self.asked().into_iter();
        let below = asked.filter(|asked| asked.path.starts_with(path));
        below.map(|asked| asked.role).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for Kv2Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn give(state: &mut State, role: &str) -> String {
    state.given += 1;
    let token = format!("hvs.canary-token-{}-{role}", state.given);
    state.tokens.insert(token.clone(), role.to_owned());
    token
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    loop {
        let whole = find(&bytes, b"\r\n\r\n").and_then(|end| {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
            (bytes.len() >= end + 4 + length).then_some((head, end + 4, length))
        });
        let Some((head, start, length)) = whole else {
            match stream.read(&mut piece).await {
                Ok(read @ 1..) => bytes.extend_from_slice(&piece[..read]),
                _ => return,
            }
            continue;
        };
        let body = bytes[start..start + length].to_vec();
        bytes.drain(..start + length);
        let Some((status, answer)) = answer(&mut state.lock().unwrap(), &head, &body) else {
            continue;
        };
        let text = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        if stream.write_all((head + &text).as_bytes()).await.is_err() {
            return;
        }
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// `None` if it does not answer at all.
fn answer(state: &mut State, head: &str, body: &[u8]) -> Option<(u16, Value)> {
    match state.mood {
        Mood::Well => {}
        Mood::Sealed => return Some((503, json!({"errors": ["Vault is sealed"]}))),
        Mood::Silent => return None,
    }
    let mut line = head.lines().next().unwrap().split(' ');
    let (method, path) = (line.next().unwrap(), line.next().unwrap());
    Some(match (method, path) {
        ("POST", "/v1/auth/kubernetes/login") => log_in(state, body, |state, asked| {
            let role = asked["role"].as_str()?;
            (asked["jwt"] == state.jwt.as_str()).then(|| role.to_owned())
        }),
        // A role id is the role's name here, and its secret id that name and `-secret`.
        ("POST", "/v1/auth/approle/login") => log_in(state, body, |_, asked| {
            let role = asked["role_id"].as_str()?;
            (asked["secret_id"] == format!("{role}-secret")).then(|| role.to_owned())
        }),
        ("GET", _) => match path.strip_prefix("/v1/secret/data/") {
            Some(path) => read(state, path, header(head, "x-vault-token")),
            None => (404, json!({"errors": ["no handler for route"]})),
        },
        _ => (405, json!({"errors": ["unsupported operation"]})),
    })
}

fn log_in(
    state: &mut State,
    body: &[u8],
    prove: impl Fn(&State, &Value) -> Option<String>,
) -> (u16, Value) {
    let asked: Value = serde_json::from_slice(body).unwrap();
    let Some(role) = prove(state, &asked) else {
        return (403, json!({"errors": ["permission denied"]}));
    };
    state.logins.push(role.clone());
    let token = give(state, &role);
    let auth = json!({
        "client_token": token,
        "policies": ["default", role],
        "lease_duration": state.lease_seconds,
        "renewable": true,
    });
    (200, json!({"auth": auth}))
}

fn read(state: &mut State, path: &str, token: Option<&str>) -> (u16, Value) {
    let role = token.and_then(|token| state.tokens.get(token)).cloned();
    let scope = role
        .as_deref()
        .and_then(|role| role.strip_prefix("tollgate-"));
    let may = scope.is_some_and(|scope| path.starts_with(&format!("tollgate/{scope}/")));
    let (status, answer) = if may {
        found(state.secrets.get(path))
    } else {
        (
            403,
            json!({"errors": ["1 error occurred: permission denied"]}),
        )
    };
    state.asked.push(Asked {
        role,
        path: path.to_owned(),
        status,
    });
    (status, answer)
}

fn found(versions: Option<&Vec<Option<String>>>) -> (u16, Value) {
    let Some(versions) = versions else {
        return (404, json!({"errors": []}));
    };
    let current = versions.last().unwrap();
    let deleted_at = match current {
        Some(_) => "",
        None => "2026-11-24T00:00:00.000000000Z",
    };
    let metadata = json!({
        "created_time": "2026-11-23T00:00:00.000000000Z",
        "custom_metadata": null,
        "deletion_time": deleted_at,
        "destroyed": false,
        "version": versions.len(),
    });
    match current {
        Some(value) => {
            let data = json!({"value": value, "note": "canary-note"});
            (200, json!({"data": {"data": data, "metadata": metadata}}))
        }
        None => (404, json!({"data": {"data": null, "metadata": metadata}})),
    }
}
