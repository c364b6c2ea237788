//! `[records.store]`: where partitions are copied to.
//!
//! Credentials are not settings: they come from where the provider's own tools find them. What is
//! asked of a place that cannot give it is a mistake, except for a lock, which `tollgate check`
//! warns of: the tenants ask for it, in files of their own.

use std::fmt;
use std::path::Path;

use tollgate_archive::store::{Place, StoreConfig};
use tollgate_core::audit::Form;
use tollgate_core::policy::parse::upstream;
use tollgate_core::policy::reader::{self, Read, Section};
use tollgate_core::policy::{ObjectLock, Retention};
use toml::de::DeValue;

use super::InsecureSettings;
use super::print::{escaped, quoted};
use super::read::path;

/// Where partitions are copied to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreSettings {
    /// The place.
    pub(crate) config: StoreConfig,
    /// How segments are written there.
    pub(crate) form: Form,
    /// How what belongs to no tenant is kept there: operators' and strangers' records.
    pub(crate) retention: Retention,
}

const FORMS: &[(&str, Form)] = &[
    ("jsonl", Form::JsonLines),
    ("zstd", Form::Zstd),
    ("parquet", Form::Parquet),
];

const LOCKS: &[(&str, ObjectLock)] = &[
    ("compliance", ObjectLock::Compliance),
    ("governance", ObjectLock::Governance),
];

/// A hundred years, as for tenants.
const MAX_DAYS: u64 = 36_500;

impl StoreSettings {
    /// Reads `[records.store]`. What is wrong with it is noted.
    pub(super) fn read(
        section: &Section<'_>,
        dir: &Path,
        data_dir: &Path,
        insecure: InsecureSettings,
    ) -> Option<Self> {
        let place = section.required("url", place);
        let form = section.optional("form", reader::one_of(FORMS));
        let region = section.optional("region", region);
        let endpoint = section.optional("endpoint", reader::text);
        let ca_file = section.optional("ca_file", path);
        let days = section.optional("retention_days", reader::integer(1..=MAX_DAYS));
        let lock = section.optional("lock", reader::one_of(LOCKS));
        if section.has("lock") && !section.has("retention_days") {
            section.mistake(
                section.at("lock"),
                "`lock` holds objects for `retention_days`, which is missing",
            );
        }
        if let Some(endpoint) = &endpoint {
            judge(section, endpoint, insecure);
        }
        let place = place?;
        let is_s3 = matches!(place, Place::S3(_));
        for key in ["region", "endpoint"] {
            if section.has(key) && !is_s3 {
                let why = format!("`{key}` goes with a `url` that begins with s3:// only");
                section.mistake(section.at(key), why);
            }
        }
        if let Place::Directory(target) = &place {
            if section.has("ca_file") {
                section.mistake(section.at("ca_file"), "a directory has no certificates");
            }
            // There every name is taken by what is to be copied, so everything would seem to
            // have arrived.
            let own = std::path::absolute(data_dir).is_ok_and(|own| own == *target);
            if own {
                let why = "`url` is the data directory itself; a copy belongs somewhere else";
                section.mistake(section.at("url"), why);
            }
        }
        Some(Self {
            config: StoreConfig {
                place,
                region,
                endpoint,
                ca_file: ca_file.map(|file| dir.join(file)),
                plain_http: insecure.plain_http_record_store,
            },
            form: form.unwrap_or_default(),
            retention: Retention {
                days: days.and_then(|days| u32::try_from(days).ok()),
                lock,
            },
        })
    }

    /// Whether the place can hold objects against everybody.
    pub(crate) const fn can_lock(&self) -> bool {
        matches!(self.config.place, Place::S3(_))
    }
}

/// Notes what is wrong with the URL of something that speaks S3.
fn judge(section: &Section<'_>, endpoint: &str, insecure: InsecureSettings) {
    let at = section.at("endpoint");
    match upstream(endpoint) {
        Err(wrong) => {
            section.mistake(at, format!("`endpoint` is no URL to send to: {wrong}"));
        }
        Ok(server) if !server.tls && !insecure.plain_http_record_store => section.mistake(
            at,
            "records could be read and changed on the way: give an https:// URL, or set `plain_http_record_store = true` in [insecure]",
        ),
        Ok(_) => {}
    }
}

fn place(value: &DeValue<'_>) -> Read<Place> {
    let text = reader::text(value)?;
    text.parse()
        .map_err(|wrong: tollgate_archive::store::NotAPlace| wrong.to_string())
}

fn region(value: &DeValue<'_>) -> Read<String> {
    let text = reader::text(value)?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !text.is_empty() && text.bytes().all(plain) {
        Ok(text)
    } else {
        Err("must be a region such as eu-central-1".to_owned())
    }
}

impl fmt::Display for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            config,
            form,
            retention,
        } = self;
        let form = named(FORMS, form);
        let url = escaped(&config.place.to_string());
        writeln!(f, "\n[records.store]\nurl = {url}\nform = \"{form}\"")?;
        for (key, text) in [("region", &config.region), ("endpoint", &config.endpoint)] {
            if let Some(text) = text {
                writeln!(f, "{key} = {}", escaped(text))?;
            }
        }
        if let Some(file) = &config.ca_file {
            writeln!(f, "ca_file = {}", quoted(file))?;
        }
        if let Some(days) = retention.days {
            writeln!(f, "retention_days = {days}")?;
        }
        if let Some(lock) = &retention.lock {
            writeln!(f, "lock = \"{}\"", named(LOCKS, lock))?;
        }
        Ok(())
    }
}

fn named<T: PartialEq>(names: &[(&'static str, T)], what: &T) -> &'static str {
    let found = names.iter().find(|(_, named)| named == what);
    found.map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use crate::config::tests::settings;

    #[test]
    fn a_record_store_reads_back_as_it_prints() {
        for text in [
            "[records.store]\nurl = \"file:///var/records\"\n",
            "[records.store]\nurl = \"gs://my-bucket/x/\"\nform = \"zstd\"\nretention_days = 3\n",
            "[records.store]\nurl = \"s3://my-bucket/x\"\nform = \"parquet\"\nregion = \"eu-central-1\"\nendpoint = \"http://127.0.0.1:9000\"\nca_file = \"/ca.pem\"\nlock = \"compliance\"\nretention_days = 400\n[insecure]\nplain_http_record_store = true\n",
        ] {
            let once = settings(text, &[]).expect("settings");
            assert!(once.store.is_some(), "{text}");
            assert_eq!(settings(&once.to_string(), &[]), Ok(once.clone()));
        }
        assert_eq!(settings("[records]\n", &[]).expect("settings").store, None);
    }

    #[test]
    fn every_mistake_about_a_record_store_is_told_at_once() {
        let text = "[records.store]
url = \"azure://x\"
form = \"csv\"
region = \"Frankfurt\"
endpoint = \"http://minio\"
lock = \"governance\"
keys = 1
";
        assert_eq!(
            settings(text, &[]).expect_err("mistakes"),
            r#"p/gateway.toml:2:7: `url` must be a URL such as file:///var/records, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix
p/gateway.toml:3:8: `form` must be one of jsonl, zstd, parquet, not "csv"
p/gateway.toml:4:10: `region` must be a region such as eu-central-1
p/gateway.toml:5:12: records could be read and changed on the way: give an https:// URL, or set `plain_http_record_store = true` in [insecure]
p/gateway.toml:6:8: `lock` holds objects for `retention_days`, which is missing
p/gateway.toml:7:1: [records.store] has no key `keys`"#
        );
        let text = "data_dir = \"/data\"
[records.store]
url = \"file:///data\"
region = \"x\"
endpoint = \"ftp://x\"
ca_file = \"ca.pem\"
";
        let told = settings(text, &[]).expect_err("mistakes");
        for expected in [
            "3:7: `url` is the data directory itself",
            "4:10: `region` goes with a `url` that begins with s3://",
            "5:12: `endpoint` goes with a `url` that begins with s3://",
            "5:12: `endpoint` is no URL to send to",
            "6:11: a directory has no certificates",
        ] {
            assert!(told.contains(expected), "{expected}: {told}");
        }
        assert_eq!(told.lines().count(), 5, "{told}");
    }
}
