//! Sends notices to one URL, signed, until each has been taken.
//!
//! The form is that of Standard Webhooks (standardwebhooks.com): `webhook-id`,
//! `webhook-timestamp` and `webhook-signature: v1,` with HMAC-SHA256 over id, time and body. What
//! is not answered with 2xx is sent again, with pauses that grow to five minutes, also after a
//! restart; a receiver knows a repetition by its id. Worst case: a receiver that takes nothing is
//! asked every five minutes for as long as notices are kept.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request};
use sha2::Sha256;
use tokio::sync::Notify;
use tollgate_core::notice::{Notice, NoticeBook};
use tollgate_core::policy::Upstream;
use zeroize::Zeroizing;

use crate::body::RequestBody;
use crate::gateway::Gateway;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// How long a receiver may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The first pause after a failure; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The most that is read of an answer.
const ANSWER_BYTES: usize = 64 << 10;
/// The shortest secret taken, in bytes.
const SECRET_BYTES: usize = 16;

/// Where notices go.
pub struct Webhook {
    upstream: Upstream,
    secret: Zeroizing<Vec<u8>>,
}

/// The secret cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is `whsec_` followed by at least {SECRET_BYTES} bytes in base64")]
pub struct InvalidSecret;

impl Webhook {
    /// A receiver at `upstream`, whose `base_path` is the whole path.
    ///
    /// # Errors
    /// [`InvalidSecret`]
    pub fn new(upstream: Upstream, secret: &str) -> Result<Self, InvalidSecret> {
        let encoded = secret.trim().strip_prefix("whsec_").ok_or(InvalidSecret)?;
        let secret = BASE64_STANDARD
            .decode(encoded)
            .map_err(|_no_base64| InvalidSecret)?;
        if secret.len() < SECRET_BYTES {
            return Err(InvalidSecret);
        }
        Ok(Self {
            upstream,
            secret: Zeroizing::new(secret),
        })
    }

    /// `v1,` and the signature in base64.
    fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) else {
            // HMAC takes keys of any length.
            return String::new();
        };
        mac.update(format!("{id}.{seconds}.{body}").as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn request(&self, notice: &Notice, seconds: i64) -> Result<Request<RequestBody>, http::Error> {
        let body = serde_json::json!({
            "type": "cap.share_reached",
            "timestamp": notice.at,
            "data": notice,
        })
        .to_string();
        let id = notice.id.to_string();
        let path = match self.upstream.base_path.as_str() {
            "" => "/",
            path => path,
        };
        Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .header(TIMESTAMP, HeaderValue::from(seconds))
            .header(SIGNATURE, self.sign(&id, seconds, &body))
            .header(ID, id)
            .body(RequestBody::buffered(body))
    }
}

/// Sends what is unsent, and again whenever `letters` rings.
pub(super) async fn deliver(
    gw: &Gateway,
    book: &dyn NoticeBook,
    webhook: &Webhook,
    letters: &Notify,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        if deliver_all(gw, book, webhook).await {
            pause = FIRST_PAUSE;
            letters.notified().await;
        } else {
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether nothing is left to be sent.
async fn deliver_all(gw: &Gateway, book: &dyn NoticeBook, webhook: &Webhook) -> bool {
    loop {
        let unsent = match book.unsent().await {
            Ok(unsent) if unsent.is_empty() => return true,
            Ok(unsent) => unsent,
            Err(error) => {
                tracing::warn!(%error, "notices cannot be read");
                return false;
            }
        };
        let mut all = true;
        for notice in &unsent {
            let outcome = tokio::time::timeout(DEADLINE, post(gw, webhook, notice)).await;
            let outcome = outcome.unwrap_or_else(|_elapsed| Err("no answer in time".to_owned()));
            gw.metrics.webhook(outcome.is_ok());
            let marked = match outcome {
                Ok(()) => book
                    .sent(notice.id)
                    .await
                    .map_err(|error| error.to_string()),
                Err(why) => Err(why),
            };
            if let Err(error) = marked {
                tracing::warn!(notice = %notice.id, error, "a notice was not taken; it is sent again");
                all = false;
            }
        }
        if !all {
            return false;
        }
    }
}

async fn post(gw: &Gateway, webhook: &Webhook, notice: &Notice) -> Result<(), String> {
    let seconds = (gw.clock)().as_seconds();
    let request = webhook
        .request(notice, seconds)
        .map_err(|error| error.to_string())?;
    let answer = gw.upstreams.send(&webhook.upstream, request).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let status = answer.response.status();
    // What it says is of no interest; read whole, it leaves the connection to others.
    let _said = answer.response.into_body().whole(ANSWER_BYTES).await;
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("the receiver answered {status}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let upstream = Upstream {
            tls: true,
            host: "hooks.example.test".to_owned(),
            port: 443,
            base_path: String::new(),
            ca_file: None,
            http2: false,
            insecure_plain_http: false,
        };
        let webhook = Webhook::new(upstream.clone(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
        let webhook = webhook.expect("a secret");
        let signature = webhook.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        for bad in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_!",
            "whsec_AAAA",
        ] {
            assert!(Webhook::new(upstream.clone(), bad).is_err(), "{bad}");
        }
    }
}
