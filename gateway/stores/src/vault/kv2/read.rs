//! The answer to a read of one secret, and what it means.
//!
//! A version that was deleted or destroyed comes as 404 with its metadata and no data; a path that
//! never was, as 404 with no errors in the list of them. Both are: no such secret. A 404 that names
//! errors is another thing (no engine at the path).

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use tollgate_core::vault::SecretVersion;
use zeroize::Zeroizing;

use super::super::{boxed, unusable};
use super::Fault;
use super::client::Answer;

/// What a read brought.
#[derive(Debug, Clone)]
pub(super) enum Read {
    Value(SecretVersion),
    /// There is no such secret, or its version was deleted or destroyed.
    Missing,
    /// The field is absent, no text, or can never be sent.
    Malformed,
}

#[derive(Deserialize)]
struct Body<'b> {
    #[serde(default, borrow)]
    data: Option<Secret<'b>>,
    #[serde(default, borrow)]
    errors: Vec<&'b RawValue>,
}

#[derive(Deserialize)]
struct Secret<'b> {
    /// Fields that are not asked for are never copied out of the answer.
    #[serde(default, borrow)]
    data: Option<HashMap<String, &'b RawValue>>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u32,
    #[serde(default)]
    destroyed: bool,
}

pub(super) fn read(answer: &Answer, field: &str) -> Result<Read, Fault> {
    match answer.status {
        200 => {}
        403 => return Err(Fault::Denied),
        404 => {
            let body: Body<'_> = parse(&answer.body)?;
            return if body.errors.is_empty() {
                Ok(Read::Missing)
            } else {
                Err(Fault::Status(404))
            };
        }
        // Sealed, standby, or a secondary that cannot answer.
        status @ (429 | 472 | 473 | 503) => return Err(Fault::Sealed(status)),
        status => return Err(Fault::Status(status)),
    }
    let body: Body<'_> = parse(&answer.body)?;
    let Secret { data, metadata } = body.data.ok_or(Fault::NotUnderstood)?;
    let Some(data) = data.filter(|_| !metadata.destroyed) else {
        return Ok(Read::Missing);
    };
    let text = data
        .get(field)
        .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let Some(mut text) = text.map(Zeroizing::new) else {
        return Ok(Read::Malformed);
    };
    let value = boxed(Zeroizing::new(std::mem::take(&mut *text).into_bytes()));
    if unusable(&value).is_some() {
        return Ok(Read::Malformed);
    }
    Ok(Read::Value(SecretVersion::new(value, metadata.version)))
}

fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|_may_quote_a_secret| Fault::NotUnderstood)
}
