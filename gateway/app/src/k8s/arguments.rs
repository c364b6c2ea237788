//! Words of a command line that Kubernetes has rules for, checked before anything is printed.
//!
//! What is accepted here is accepted by the API server; what it refuses is told at once and by its
//! name, not by a server that has applied half of the manifests already.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The longest label of a DNS name, and the longest value of a Kubernetes label.
const LONGEST_LABEL: usize = 63;
/// The longest DNS name.
const LONGEST_NAME: usize = 253;

/// A name of a namespace, a service account or whatever else must be a label of a DNS name (RFC 1123).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DnsLabel(String);

/// A key and a value by which pods are told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) key: String,
    pub(super) value: String,
}

/// An amount of a resource, such as `500m` or `16Gi`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Amount(String);

/// Why a word cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("must be 1 to 63 of a-z, 0-9 and '-', and begin and end with a letter or digit")]
    DnsLabel,
    #[error("must be KEY=VALUE, as of a label of a pod")]
    Label,
    #[error("must be an amount such as 8, 500m or 16Gi")]
    Amount,
}

impl DnsLabel {
    /// The name as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsLabel {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid = is_framed(text, LONGEST_LABEL) && text.bytes().all(fits);
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(Unfit::DnsLabel)
        }
    }
}

impl fmt::Display for DnsLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        let (key, value) = text.split_once('=').ok_or(Unfit::Label)?;
        let (prefix, name) = key.split_once('/').unwrap_or(("dns", key));
        let is_dns_name = prefix.len() <= LONGEST_NAME
            && prefix
                .split('.')
                .all(|label| label.parse::<DnsLabel>().is_ok());
        if is_dns_name && is_label_value(name) && (value.is_empty() || is_label_value(value)) {
            let (key, value) = (key.to_owned(), value.to_owned());
            Ok(Self { key, value })
        } else {
            Err(Unfit::Label)
        }
    }
}

impl FromStr for Amount {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        const UNITS: [&str; 10] = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
        let end = text.find(|c: char| !c.is_ascii_digit());
        let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
        if (1..=15).contains(&digits.len()) && UNITS.contains(&unit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Unfit::Amount)
        }
    }
}

impl From<&Amount> for Quantity {
    fn from(amount: &Amount) -> Self {
        Self(amount.0.clone())
    }
}

/// Whether it may be the value of a label, or the name in a key.
pub(super) fn is_label_value(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    is_framed(text, LONGEST_LABEL) && text.bytes().all(fits)
}

/// Whether it begins and ends with a letter or a digit and is not too long.
fn is_framed(text: &str, longest: usize) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    let framed = ends
        .iter()
        .all(|byte| byte.is_some_and(|byte| byte.is_ascii_alphanumeric()));
    framed && text.len() <= longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_would_refuse_is_refused() {
        let longest = "a".repeat(63);
        for (text, valid) in [
            ("acme", true),
            ("a", true),
            ("0-9", true),
            (longest.as_str(), true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("a_b", false),
            ("a.b", false),
            ("Acme", false),
            ("a\n", false),
            (&format!("{longest}a"), false),
        ] {
            assert_eq!(text.parse::<DnsLabel>().is_ok(), valid, "{text:?}");
        }
        for (text, valid) in [
            ("k8s-app=kube-dns", true),
            ("app.kubernetes.io/name=tollgate", true),
            ("empty=", true),
            ("kube-dns", false),
            ("=kube-dns", false),
            ("/name=a", false),
            ("Not.Dns/name=a", false),
            ("a=b=c", false),
            ("a=-b", false),
        ] {
            assert_eq!(text.parse::<Label>().is_ok(), valid, "{text:?}");
        }
        for (text, valid) in [
            ("8", true),
            ("500m", true),
            ("16Gi", true),
            ("", false),
            ("Gi", false),
            ("-1", false),
            ("1.5", false),
            ("16GiB", false),
            ("1e3", false),
        ] {
            assert_eq!(text.parse::<Amount>().is_ok(), valid, "{text:?}");
        }
    }
}
