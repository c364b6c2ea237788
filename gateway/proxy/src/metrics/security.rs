//! What somebody tried who should not: claims, tokens that do not hold, elevated actions, secrets
//! that came back.

use http::HeaderName;
use prometheus::Registry;

use super::by_word::ByWord;
use crate::record::CLAIM_HEADERS;

/// Where in an answer something stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    Header,
    Body,
}

impl Where {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Body => "body",
        }
    }
}

/// What came of an elevated action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elevated {
    /// It may have been done.
    Made,
    /// It was refused.
    Refused,
}

impl Elevated {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Refused => "refused",
        }
    }
}

/// What can be wrong with a token or certificate, as records name it.
const FAULTS: [&str; 15] = [
    "token_missing",
    "token_ambiguous",
    "token_malformed",
    "token_signature",
    "token_claims",
    "token_lifetime",
    "token_expired",
    "token_not_yet_valid",
    "token_unregistered",
    "token_revoked",
    "tenant_unknown",
    "agent_disabled",
    "token_binding",
    "certificate_unmapped",
    "certificate_expired",
];

/// The counters.
pub(crate) struct Security {
    scrub_hits: ByWord,
    claims: ByWord,
    faults: ByWord,
    elevated: ByWord,
}

impl Security {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let scrub_hits = (
            "tollgate_scrub_hits_total",
            "Secrets taken out of answers of upstreams that sent them back, by where they stood.",
        );
        let claims = (
            "tollgate_identity_claims_total",
            "Calls that named a tenant, agent or the like, which decides nothing, by where.",
        );
        let faults = (
            "tollgate_unauthenticated_total",
            "Calls whose token or certificate does not hold, by reason.",
        );
        let elevated = (
            "tollgate_elevated_actions_total",
            "Elevated actions, by result: made or refused.",
        );
        let places = [Where::Header, Where::Body].map(Where::as_str);
        let results = [Elevated::Made, Elevated::Refused].map(Elevated::as_str);
        let claimed = CLAIM_HEADERS
            .iter()
            .map(HeaderName::as_str)
            .chain(["query"]);
        Ok(Self {
            scrub_hits: ByWord::register(registry, scrub_hits, "where", places)?,
            claims: ByWord::register(registry, claims, "claim", claimed)?,
            faults: ByWord::register(registry, faults, "reason", FAULTS)?,
            elevated: ByWord::register(registry, elevated, "result", results)?,
        })
    }

    pub(crate) fn scrubbed(&self, place: Where, hits: u64) {
        if hits > 0 {
            self.scrub_hits.add(place.as_str(), hits);
        }
    }

    /// A call named somebody: `claim` is the text that its record keeps.
    pub(crate) fn claimed(&self, claim: &str) {
        let header = claim.split_once(": ").map(|(header, _)| header);
        let known = header.filter(|header| CLAIM_HEADERS.iter().any(|name| name == *header));
        self.claims.inc(known.unwrap_or("query"));
    }

    pub(crate) fn unauthenticated(&self, reason: &'static str) {
        self.faults.inc(reason);
    }

    pub(crate) fn elevated(&self, result: Elevated) {
        self.elevated.inc(result.as_str());
    }
}
