//! An issuer of foreign tokens: its keys, and a server that publishes them and counts who asks.
//!
//! Signs whatever it is given. The server speaks just enough HTTP/1.1 to be asked for one thing;
//! it can be told to answer anything, or to be silent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::forge::unsigned;

/// An RSA key of 2,048 bits that everybody knows. Making one takes too long for a test.
const RSA_2048: &str = include_str!("keys/rsa_2048.pem");

/// A signing key with an id.
pub struct IssuerKey {
    id: String,
    key: EncodingKey,
    algorithm: Algorithm,
}

impl IssuerKey {
    /// A fresh P-256 key.
    #[must_use]
    pub fn es256(id: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self {
            id: id.to_owned(),
            key: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(),
            algorithm: Algorithm::ES256,
        }
    }

    /// The one RSA key.
    #[must_use]
    pub fn rs256(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            key: EncodingKey::from_rsa_pem(RSA_2048.as_bytes()).unwrap(),
            algorithm: Algorithm::RS256,
        }
    }

    /// The public key as a member of a key set.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The header of its tokens, as Kubernetes writes it.
    #[must_use]
    pub fn header(&self) -> Value {
        let algorithm = serde_json::to_value(self.algorithm).unwrap();
        json!({ "alg": algorithm, "kid": self.id })
    }

    /// A token of these claims.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }

    /// A token of these claims, with any header.
    #[must_use]
    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(&header.to_string(), &claims.to_string());
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// A set of keys as JSON.
#[must_use]
pub fn key_set(keys: &[&IssuerKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

#[derive(Default)]
struct Board {
    /// Status line and body; `None` hangs up.
    answer: Option<(String, String)>,
    heads: Vec<String>,
}

/// A server that publishes a key set.
pub struct KeyServer {
    address: SocketAddr,
    board: Arc<Mutex<Board>>,
    accepting: JoinHandle<()>,
}

impl KeyServer {
    /// Publishes this.
    pub async fn start(body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let board = Arc::new(Mutex::new(Board::default()));
        let accepting = tokio::spawn({
            let board = Arc::clone(&board);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&board)));
                }
            }
        });
        let server = Self {
            address,
            board,
            accepting,
        };
        server.publish(body);
        server
    }

    /// Where the set is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// Publishes something else from now on.
    pub fn publish(&self, body: &str) {
        self.answer("200 OK", body);
    }

    /// Answers so from now on; `status` may bring header lines with it.
    pub fn answer(&self, status: &str, body: &str) {
        self.board.lock().unwrap().answer = Some((status.to_owned(), body.to_owned()));
    }

    /// Hangs up on whoever asks from now on.
    pub fn fall_silent(&self) {
        self.board.lock().unwrap().answer = None;
    }

    /// The head of each request so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.board.lock().unwrap().heads.clone()
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, board: Arc<Mutex<Board>>) {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(read @ 1..) => head.extend_from_slice(&piece[..read]),
            _ => return,
        }
    }
    let answer = {
        let mut board = board.lock().unwrap();
        board
            .heads
            .push(String::from_utf8_lossy(&head).into_owned());
        board.answer.clone()
    };
    if let Some((status, body)) = answer {
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        // Who hangs up meanwhile does not want it.
        drop(stream.write_all(text.as_bytes()).await);
    }
}
