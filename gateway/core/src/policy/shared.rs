//! Physical keys that several tenants share: what keeps the tenants apart at the provider.
//!
//! A provider tells accounts apart, not tenants. With a key of its own a tenant has an account, or a
//! project of one, to itself; on a shared key everything that is kept there is everybody's: files,
//! batches, stored responses and conversations, and answers kept for repeated requests. So on a
//! shared key whatever shows or addresses what an account keeps is refused, and what names a
//! repeated request is made the tenant's own. Limits, caps and records are the tenant's anyway.
//!
//! It does not know which objects belong to whom, and it does not read bodies that are streamed:
//! endpoints whose bodies name such objects carry `account_wide = true` instead. Worst case: a field
//! that a provider adds later, under a name that is not listed here, reaches an object of another
//! tenant whose id the caller knows. What cannot be kept apart at all stands in `docs/vault.md`:
//! caches of prompts, and the provider's own limits on the account.

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};

use super::{Credential, Endpoint, Operation};
use crate::call::{Ask, names_kept_items};
use crate::ids::TenantId;
use crate::refusal::Refusal;
use crate::vault::VaultScope;

/// Fields whose text, or list of texts, is the id of something that the account keeps. Case and
/// separators are left out, because some servers do not mind them.
const IDS: [&str; 34] = [
    "agentid",
    "assistantid",
    "batchid",
    "cachedcontent",
    "cachedcontentname",
    "collectionid",
    "collectionids",
    "container",
    "containerid",
    "conversation",
    "conversationid",
    "datastore",
    "documentid",
    "documentids",
    "fileid",
    "fileids",
    "filesearchstorename",
    "filesearchstorenames",
    "fileuri",
    "gcsuri",
    "inputfileid",
    "libraryid",
    "libraryids",
    "previousinteractionid",
    "previousresponseid",
    "promptid",
    "ragcorpus",
    "ragfileids",
    "skillid",
    "threadid",
    "uploadid",
    "uri",
    "vectorstoreid",
    "vectorstoreids",
];

/// Fields whose object is such a thing if it has an `id`.
const OBJECTS: [&str; 5] = ["audio", "container", "conversation", "prompt", "voice"];

/// Values of a `type` that say that the account's own things are used: an item that it keeps, or
/// what its machine identity may read.
const OWN_THINGS: [&str; 3] = [
    "item_reference",
    "system_assigned_managed_identity",
    "user_assigned_managed_identity",
];

/// Fields of objects that are a tool's own arguments or results, which providers only pass on.
const ARGUMENTS: [&str; 3] = ["args", "input", "response"];

/// What headers name one of several projects of an account by.
const PROJECTS: [HeaderName; 3] = [
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("x-goog-user-project"),
];

/// Whether tenants share the key behind a credential.
#[must_use]
pub fn is_shared(credential: &Credential) -> bool {
    credential.secret.scope == VaultScope::Platform
}

/// Refuses endpoints that show or change what the account keeps.
///
/// # Errors
/// [`Refusal::SharedAccount`].
pub fn refuse_endpoint(credential: &Credential, endpoint: &Endpoint) -> Result<(), Refusal> {
    let is_about_the_account = endpoint.account_wide
        || matches!(
            endpoint.operation,
            Operation::ResponseStatus
                | Operation::BatchInput
                | Operation::Batch
                | Operation::BatchStatus
                | Operation::BatchOutput
                | Operation::MessageBatch
                | Operation::MessageBatchResults
        );
    if is_shared(credential) && is_about_the_account {
        return Err(Refusal::SharedAccount);
    }
    Ok(())
}

/// Refuses JSON bodies that refer to what the account keeps, or that leave something there to be
/// fetched later, which is refused as well. A body that is no JSON is a form and brings its files
/// along.
///
/// # Errors
/// [`Refusal::SharedAccount`].
pub fn refuse_body(credential: &Credential, ask: &Ask, body: &[u8]) -> Result<(), Refusal> {
    if !is_shared(credential) {
        return Ok(());
    }
    if ask.deferred || (ask.operation == Operation::Responses && names_kept_items(body)) {
        return Err(Refusal::SharedAccount);
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let look = Look {
        under: "",
        is_element: true,
    };
    let found = look.deserialize(&mut json);
    match found.and_then(|found| json.end().map(|()| found)) {
        Ok(false) => Ok(()),
        Err(_no_json) if !begins_as_json(body) => Ok(()),
        _ => Err(Refusal::SharedAccount),
    }
}

/// Makes what names a repeated request, or a request at all, the tenant's own: the same name of the
/// same tenant stays the same, that of another becomes another. What chooses among the account's
/// projects is taken out, since the key's own is the one that is meant.
pub fn separate(credential: &Credential, tenant: &TenantId, headers: &mut HeaderMap) {
    if !is_shared(credential) {
        return;
    }
    for name in PROJECTS {
        headers.remove(name);
    }
    for (name, value) in headers.iter_mut() {
        if names_a_request(name) {
            *value = own(tenant, name, value);
        }
    }
}

/// `Idempotency-Key`, `X-Idempotency-Key`, `X-Qonto-Idempotency-Key`, `PayPal-Request-Id`,
/// `X-Client-Request-Id`, `X-Amzn-Client-Token` and what is named like them.
fn names_a_request(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.contains("idempoten") || name.ends_with("request-id") || name.ends_with("client-token")
}

/// In the form of a UUID, which every server takes that takes anything.
fn own(tenant: &TenantId, name: &HeaderName, value: &HeaderValue) -> HeaderValue {
    let mut hash = Sha256::new();
    for part in [
        b"tollgate request name".as_slice(),
        tenant.as_str().as_bytes(),
        name.as_str().as_bytes(),
    ] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(value.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let (bytes, _) = digest.split_first_chunk().unwrap_or((&[0; 16], &[]));
    let uuid = uuid::Builder::from_custom_bytes(*bytes).into_uuid();
    HeaderValue::from_str(&uuid.to_string()).unwrap_or_else(|_no_uuid| HeaderValue::from_static(""))
}

fn begins_as_json(body: &[u8]) -> bool {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'{' | b'['))
}

/// Looks through a value for references, each field of each object, repeated ones as well. True if
/// there is one.
#[derive(Clone, Copy)]
struct Look<'n> {
    /// The field that the value is of, in lower case without separators.
    under: &'n str,
    /// Whether it stands in a list there.
    is_element: bool,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, value: D) -> Result<bool, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        let is_id = IDS.binary_search(&self.under).is_ok() && !text.is_empty();
        Ok(is_id || (self.under == "type" && OWN_THINGS.contains(&text)))
    }

    fn visit_bool<E>(self, _value: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _value: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _value: u64) -> Result<bool, E> {
        Ok(false)
    }

    #[expect(clippy::disallowed_types, reason = "passed over, never reckoned with")]
    fn visit_f64<E>(self, _value: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        let mut found = false;
        // What stands in a list of ids is an id.
        let each = Look {
            is_element: true,
            ..self
        };
        while let Some(refers) = list.next_element_seed(each)? {
            found |= refers;
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<bool, A::Error> {
        let mut found = false;
        if !self.is_element && ARGUMENTS.contains(&self.under) {
            while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(false);
        }
        while let Some(name) = object.next_key::<String>()? {
            let name: String = name
                .chars()
                .filter(|c| !matches!(c, '_' | '-'))
                .map(|c| c.to_ascii_lowercase())
                .collect();
            let refers = object.next_value_seed(Look {
                under: &name,
                is_element: false,
            })?;
            found |= refers || (name == "id" && OBJECTS.contains(&self.under));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
