//! What runs out: certificates and admin credentials.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tollgate_admin::credentials::{Credential, Role};
use tollgate_core::time::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::finding::{Area, Finding};
use crate::config::Settings;

const CERTIFICATES: Area = Area("certificates");
const ADMINS: Area = Area("admins");

/// Whoever renews at all has done so by then.
const SOON_DAYS: i64 = 14;
const DAY_SECONDS: i64 = 86_400;

/// A file of certificates and when the first of them runs out.
pub(super) struct Certificates {
    pub(super) file: String,
    /// Seconds since 1970, or why it is not known.
    pub(super) until: Result<i64, String>,
}

pub(super) fn judge_certificates(files: &[Certificates], now: Timestamp) -> Vec<Finding> {
    let judge = |it: &Certificates| {
        let file = &it.file;
        let until = match &it.until {
            Ok(until) => *until,
            Err(why) => {
                return CERTIFICATES.problem(
                    format!("{file}: {why}"),
                    "correct the file or what gateway.toml says of it",
                );
            }
        };
        let left = until.saturating_sub(now.as_seconds());
        let days = left / DAY_SECONDS;
        if left <= 0 {
            CERTIFICATES.problem(
                format!("{file} has run out {} days ago", -days),
                "renew it, and restart the gateway (or take over with `tollgate serve --upgrade`)",
            )
        } else if days < SOON_DAYS {
            CERTIFICATES.warning(
                format!("{file} runs out in {days} days"),
                "renew it, and restart the gateway (or take over with `tollgate serve --upgrade`)",
            )
        } else {
            CERTIFICATES.ok(format!("{file} is good for {days} days"))
        }
    };
    files.iter().map(judge).collect()
}

/// Every file of certificates that the settings name.
pub(super) fn certificates(settings: &Settings) -> Vec<Certificates> {
    let mut files: Vec<&PathBuf> = Vec::new();
    if let Some(tls) = &settings.tls {
        files.push(&tls.certificate);
        files.extend(tls.clients.as_ref().map(|clients| &clients.file));
    }
    files.extend(
        settings
            .collectors()
            .filter_map(|(_, to)| to.server.ca_file.as_ref()),
    );
    files.extend(
        settings
            .webhook
            .iter()
            .filter_map(|to| to.upstream.ca_file.as_ref()),
    );
    files.extend(
        settings
            .store
            .iter()
            .filter_map(|to| to.config.ca_file.as_ref()),
    );
    files.extend(
        settings
            .fleet
            .iter()
            .filter_map(|fleet| fleet.ca_file.as_ref()),
    );
    files.sort();
    files.dedup();
    let read = |file: &&PathBuf| Certificates {
        file: file.display().to_string(),
        until: until(file),
    };
    files.iter().map(read).collect()
}

/// When the first certificate of a file runs out.
fn until(file: &Path) -> Result<i64, String> {
    let all = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())?;
    let mut first: Option<i64> = None;
    for der in all {
        let der = der.map_err(|error| error.to_string())?;
        let (_, read) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        let until = read.validity().not_after.timestamp();
        first = Some(first.map_or(until, |first| first.min(until)));
    }
    first.ok_or_else(|| "there is no certificate in it".to_owned())
}

pub(super) fn judge_admins(all: &[Credential], now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    let lives = |it: &&Credential| it.expires_at.is_none_or(|until| until > now);
    let operators = all.iter().filter(|it| it.role == Role::Operator);
    if operators.filter(lives).count() == 0 {
        found.push(ADMINS.problem(
            "there is no operator's credential that has not run out",
            "make one: tollgate admin add --role operator --name NAME",
        ));
    }
    for it in all {
        let Some(until) = it.expires_at else { continue };
        let days = until.as_seconds().saturating_sub(now.as_seconds()) / DAY_SECONDS;
        if until <= now {
            found.push(ADMINS.warning(
                format!("the credential {} has run out", it.name),
                format!("tollgate admin remove --name {}", it.name),
            ));
        } else if days < SOON_DAYS {
            found.push(ADMINS.warning(
                format!("the credential {} runs out in {days} days", it.name),
                "make another and hand it over",
            ));
        }
    }
    if found.is_empty() {
        found.push(ADMINS.ok(format!("{} may use the admin API", all.len())));
    }
    found
}

/// That it cannot be told who may ask.
pub(super) fn no_admins(why: &str) -> Finding {
    ADMINS.problem(
        format!("nobody is let in to the admin API: {why}"),
        "restore keys/admins.json; docs/admin.md says what it must be",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use tollgate_admin::credentials::CredentialDigest;

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_certificate_that_has_run_out_or_will_soon_is_told() {
        let at = |days: i64| now().as_seconds() + days * DAY_SECONDS + 60;
        for (until, level, says) in [
            (Ok(at(90)), Level::Ok, "good for 90 days"),
            (Ok(at(3)), Level::Warning, "runs out in 3 days"),
            (Ok(at(-5)), Level::Problem, "run out 4 days ago"),
            (Err("no PEM".to_owned()), Level::Problem, "tls.crt: no PEM"),
        ] {
            let file = "tls.crt".to_owned();
            let found = judge_certificates(&[Certificates { file, until }], now());
            assert_eq!(found[0].level, level, "{found:?}");
            assert!(found[0].what.contains(says), "{found:?}");
        }
    }

    #[test]
    fn there_must_be_an_operator_and_what_has_run_out_is_told() {
        let credential = |name: &str, role, until: Option<&str>| Credential {
            name: name.parse().unwrap(),
            role,
            digest: CredentialDigest::of(name),
            created_at: now(),
            expires_at: until.map(|until| until.parse().unwrap()),
        };
        let levels = |all: &[Credential]| {
            let found = judge_admins(all, now());
            found
                .into_iter()
                .map(|found| found.level)
                .collect::<Vec<_>>()
        };
        let olga = credential("olga", Role::Operator, None);
        assert_eq!(levels(std::slice::from_ref(&olga)), [Level::Ok]);
        assert_eq!(levels(&[]), [Level::Problem]);
        let gone = credential("gone", Role::Operator, Some("2026-11-01T00:00:00Z"));
        assert_eq!(
            levels(std::slice::from_ref(&gone)),
            [Level::Problem, Level::Warning]
        );
        let soon = credential("soon", Role::Operator, Some("2026-11-30T00:00:00Z"));
        assert_eq!(
            levels(&[olga, gone, soon]),
            [Level::Warning, Level::Warning]
        );
    }
}
