//! What a request's head says about its cost, beside its body: tiers of service that Bedrock and
//! Vertex AI take as headers, and masks by which Google's answers leave out their usage.
//!
//! It does not read the path, which the dialects' own readers do.

use http::HeaderMap;

use super::Ask;
use super::read::invalid;
use crate::policy::Operation;
use crate::refusal::Refusal;
use crate::route::decode;

/// Headers that choose a tier of service.
const TIERS: [&str; 2] = [
    "x-amzn-bedrock-service-tier",
    "x-vertex-ai-llm-shared-request-type",
];
/// The header that chooses a faster and dearer way of serving.
const LATENCY: &str = "x-amzn-bedrock-performanceconfig-latency";
/// The header and the query parameters by which Google's APIs answer in part.
const MASK: &str = "x-goog-fieldmask";
const MASKS: [&[u8]; 2] = [b"fields", b"$fields"];

impl Ask {
    /// Adds what the request's head asks for to what its body does.
    ///
    /// # Errors
    /// [`Refusal::Malformed`], where the head contradicts itself or the body, or asks for an answer
    /// without its usage.
    pub fn read_head(&mut self, headers: &HeaderMap, query: Option<&str>) -> Result<(), Refusal> {
        match self.operation {
            Operation::Converse | Operation::InvokeModel => {
                add(&mut self.terms.service_tier, headers, &TIERS)?;
                add(&mut self.terms.speed, headers, &[LATENCY])
            }
            Operation::GenerateContent | Operation::EmbedContent | Operation::Messages => {
                add(&mut self.terms.service_tier, headers, &TIERS)?;
                refuse_masks(headers, query)
            }
            _ => Ok(()),
        }
    }
}

/// Takes a term from the headers; standard ones say nothing.
fn add(term: &mut Option<String>, headers: &HeaderMap, names: &[&str]) -> Result<(), Refusal> {
    for value in names.iter().flat_map(|name| headers.get_all(*name)) {
        let value = value
            .to_str()
            .map_err(|_odd: http::header::ToStrError| invalid("a tier of service is in ASCII"))?
            .trim()
            .to_ascii_lowercase();
        if matches!(value.as_str(), "" | "default" | "standard") {
            continue;
        }
        if term.as_ref().is_some_and(|given| *given != value) {
            return Err(invalid("the request names two tiers of service"));
        }
        *term = Some(value);
    }
    Ok(())
}

fn refuse_masks(headers: &HeaderMap, query: Option<&str>) -> Result<(), Refusal> {
    let in_query = query
        .unwrap_or_default()
        .split(['&', ';'])
        .filter_map(|parameter| parameter.split('=').next())
        .map(decode)
        .any(|name| MASKS.iter().any(|mask| name.eq_ignore_ascii_case(mask)));
    if in_query || headers.contains_key(MASK) {
        return Err(invalid(
            "a mask of fields would leave the usage out of the answer",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::call::Request;

    fn read(
        operation: Operation,
        body: &str,
        headers: &[(&'static str, &'static str)],
        query: Option<&str>,
    ) -> Result<Ask, Refusal> {
        let mut ask = Ask::parse(operation, &Request::json(body.as_bytes())).expect("an ask");
        let headers: HeaderMap = headers
            .iter()
            .map(|&(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        ask.read_head(&headers, query)?;
        Ok(ask)
    }

    #[test]
    fn a_tier_that_a_header_chooses_is_priced() {
        let tier = |operation, headers: &[(&'static str, &'static str)]| {
            let ask = read(operation, r#"{"model":"m"}"#, headers, None).expect("an ask");
            (ask.terms.service_tier, ask.terms.speed)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            tier(
                Operation::InvokeModel,
                &[("x-amzn-bedrock-service-tier", "Priority")]
            ),
            (some("priority"), None)
        );
        assert_eq!(
            tier(
                Operation::InvokeModel,
                &[("x-amzn-bedrock-performanceconfig-latency", "optimized")]
            ),
            (None, some("optimized"))
        );
        assert_eq!(
            tier(
                Operation::GenerateContent,
                &[("x-vertex-ai-llm-shared-request-type", "flex")]
            ),
            (some("flex"), None)
        );
        assert_eq!(
            tier(
                Operation::Converse,
                &[("x-amzn-bedrock-service-tier", "default")]
            ),
            (None, None)
        );
        assert_eq!(
            tier(
                Operation::ChatCompletions,
                &[("x-amzn-bedrock-service-tier", "priority")]
            ),
            (None, None)
        );
    }

    #[test]
    fn a_head_that_contradicts_the_body_is_refused() {
        let body = r#"{"model":"m","serviceTier":{"type":"flex"}}"#;
        let tier = |value| {
            read(
                Operation::Converse,
                body,
                &[("x-amzn-bedrock-service-tier", value)],
                None,
            )
        };
        assert!(tier("flex").is_ok());
        assert!(tier("priority").is_err());
        let twice = [
            ("x-amzn-bedrock-service-tier", "flex"),
            ("x-amzn-bedrock-service-tier", "priority"),
        ];
        assert!(read(Operation::InvokeModel, r#"{"model":"m"}"#, &twice, None).is_err());
    }

    #[test]
    fn an_answer_without_its_usage_may_not_be_asked_for() {
        let body = r#"{"model":"m"}"#;
        for query in [
            "fields=candidates",
            "alt=sse&$fields=x",
            "%66ields=x",
            "%24Fields=x",
        ] {
            let read = read(Operation::GenerateContent, body, &[], Some(query));
            assert!(read.is_err(), "{query}");
        }
        let mask = [("x-goog-fieldmask", "candidates")];
        assert!(read(Operation::GenerateContent, body, &mask, None).is_err());
        let usual = read(Operation::GenerateContent, body, &[], Some("alt=sse&key=x"));
        assert!(usual.is_ok());
        let other = read(Operation::ChatCompletions, body, &[], Some("fields=x"));
        assert!(other.is_ok());
    }
}
