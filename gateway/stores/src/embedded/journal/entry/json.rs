//! The JSON of what is written for every call, without a serializer.
//!
//! It is byte for byte what `serde` makes of the same values; it only gets there in fewer steps:
//! names are constants, ids and numbers are known to need no escaping, and text is looked through
//! at once instead of byte by byte. What few calls have goes through `serde_json`. Every value is
//! taken apart whole, so that a new field does not compile before it is written here. Worst case:
//! a field that is renamed elsewhere only; the tests compare both.

use serde::Serialize;
use tollgate_core::budget::Counters;
use tollgate_core::ids::{HandleName, ProviderName};
use tollgate_core::json::escaped;
use tollgate_core::record::{Ending, Subject};
use tollgate_core::usage::Usage;

use super::{Cost, Place};

/// An object in the making. Each name comes with its quotes, its colon and what goes before it, and
/// that of a text with the quote after it.
pub(super) struct Json<'a>(&'a mut Vec<u8>);

impl<'a> Json<'a> {
    pub(super) const fn new(to: &'a mut Vec<u8>) -> Self {
        Self(to)
    }

    pub(super) fn raw(&mut self, json: &str) {
        self.0.extend_from_slice(json.as_bytes());
    }

    /// A text that holds nothing to escape: a checked name, an id, a time, an amount.
    fn plain(&mut self, name: &str, value: &str) {
        self.raw(name);
        self.raw(value);
        self.0.push(b'"');
    }

    fn plain_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.plain(name, value);
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        self.plain(name, &escaped(value));
    }

    fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A number, or something that few calls have.
    fn value(&mut self, name: &str, value: &impl Serialize) -> serde_json::Result<()> {
        self.raw(name);
        serde_json::to_writer(&mut *self.0, value)
    }

    fn value_if(&mut self, name: &str, value: Option<impl Serialize>) -> serde_json::Result<()> {
        value.map_or(Ok(()), |value| self.value(name, &value))
    }

    pub(super) fn place(&mut self, place: &Place<'_>) -> serde_json::Result<()> {
        let Place {
            id,
            at,
            partition,
            agent,
            elevated,
        } = place;
        self.plain(r#"{"id":""#, &id.text());
        self.value(r#","at":"#, at)?;
        self.plain_if(r#","tenant":""#, *partition);
        self.plain_if(r#","agent":""#, *agent);
        if *elevated {
            self.raw(r#","elevated":true"#);
        }
        self.raw("}");
        Ok(())
    }

    pub(super) fn hold(&mut self, counters: &Counters, pico: i128) -> serde_json::Result<()> {
        self.plain(r#"{"keys":""#, counters.in_json());
        self.value(r#","pico":"#, &pico)?;
        self.raw("}");
        Ok(())
    }

    pub(super) fn cost(&mut self, cost: Cost) -> serde_json::Result<()> {
        let Cost { pico, at } = cost;
        self.value(r#"{"pico":"#, &pico)?;
        self.value(r#","at":"#, &at)?;
        self.raw("}");
        Ok(())
    }

    pub(super) fn subject(&mut self, subject: &Subject) -> serde_json::Result<()> {
        let Subject {
            id,
            started_at,
            tenant,
            agent,
            task,
            token,
            certificate,
            provider,
            operation,
            request_model,
            method,
            path,
            upstream,
            credential,
            credential_version,
            price_version,
            price_provider,
            reserved,
            elevated,
            trace,
            span,
            untrusted,
            notes,
        } = subject;
        self.plain(r#"{"tollgate.record.id":""#, &id.text());
        self.plain(r#","tollgate.started_at":""#, &started_at.text());
        self.plain(r#","tenant.id":""#, tenant.as_str());
        self.plain(r#","gen_ai.agent.id":""#, agent.as_str());
        self.plain(r#","tollgate.task.id":""#, task.as_str());
        self.plain(r#","tollgate.token.id":""#, token.as_str());
        if let Some(certificate) = certificate {
            self.plain(
                r#","tollgate.certificate.sha256":""#,
                &certificate.to_string(),
            );
        }
        let provider = provider.as_ref().map(ProviderName::as_str);
        self.plain_if(r#","gen_ai.provider.name":""#, provider);
        self.text_if(r#","gen_ai.operation.name":""#, operation.as_deref());
        let model = request_model.as_ref().map(|model| model.as_str());
        self.text_if(r#","gen_ai.request.model":""#, model);
        self.text(r#","http.request.method":""#, method);
        self.text(r#","url.path":""#, path);
        self.text_if(r#","server.address":""#, upstream.as_deref());
        let credential = credential.as_ref().map(HandleName::as_str);
        self.plain_if(r#","tollgate.credential.name":""#, credential);
        self.value_if(r#","tollgate.credential.version":"#, *credential_version)?;
        self.text_if(r#","tollgate.price.version":""#, price_version.as_deref());
        self.text_if(r#","tollgate.price.provider":""#, price_provider.as_deref());
        if let Some(reserved) = reserved {
            self.plain(r#","tollgate.cost.reserved_usd":""#, &reserved.text());
        }
        if *elevated {
            self.raw(r#","tollgate.elevated":true"#);
        }
        if let Some(trace) = trace {
            self.plain(r#","tollgate.trace.id":""#, &trace.to_string());
        }
        if let Some(span) = span {
            self.plain(r#","tollgate.trace.span.id":""#, &span.to_string());
        }
        if !untrusted.is_empty() {
            self.value(r#","tollgate.untrusted":"#, untrusted)?;
        }
        if !notes.is_empty() {
            self.value(r#","tollgate.notes":"#, notes)?;
        }
        self.raw("}");
        Ok(())
    }

    pub(super) fn ending(&mut self, ending: &Ending) -> serde_json::Result<()> {
        let Ending {
            ended_at,
            outcome,
            status,
            code,
            reason,
            limit,
            response_model,
            usage_source,
            usage,
            elsewhere,
            terms,
            reported_cost,
            cost,
            adjusts,
            first_byte_us,
            secret_scrubbed,
        } = ending;
        self.plain(r#"{"tollgate.ended_at":""#, &ended_at.text());
        self.plain(r#","tollgate.outcome":""#, outcome.as_str());
        self.value_if(r#","http.response.status_code":"#, *status)?;
        self.text_if(r#","error.type":""#, code.as_deref());
        self.text_if(r#","tollgate.refusal.reason":""#, reason.as_deref());
        self.text_if(r#","tollgate.refusal.limit":""#, limit.as_deref());
        self.text_if(r#","gen_ai.response.model":""#, response_model.as_deref());
        self.plain(r#","tollgate.usage.source":""#, usage_source.as_str());
        if let Some(usage) = usage {
            self.usage(r#","tollgate.usage":"#, usage)?;
        }
        if !elsewhere.is_empty() {
            self.value(r#","tollgate.usage.elsewhere":"#, elsewhere)?;
        }
        if !terms.is_standard() {
            self.value(r#","tollgate.price.terms":"#, terms)?;
        }
        if let Some(reported) = reported_cost {
            self.plain(r#","tollgate.cost.reported_usd":""#, &reported.text());
        }
        self.plain(r#","tollgate.cost_usd":""#, &cost.text());
        self.value_if(r#","tollgate.cost.adjusts":"#, *adjusts)?;
        self.value_if(r#","tollgate.first_byte_us":"#, *first_byte_us)?;
        if *secret_scrubbed {
            self.raw(r#","tollgate.secret_scrubbed":true"#);
        }
        self.raw("}");
        Ok(())
    }

    fn usage(&mut self, name: &str, usage: &Usage) -> serde_json::Result<()> {
        let Usage {
            input_tokens,
            cached_input_tokens,
            cache_write_tokens,
            cache_write_1h_tokens,
            output_tokens,
            reasoning_tokens,
            input_audio_tokens,
            cached_audio_tokens,
            output_audio_tokens,
            input_image_tokens,
            cached_image_tokens,
            output_image_tokens,
            input_video_tokens,
            tool_input_tokens,
            web_searches,
            file_searches,
            search_units,
            pages,
            audio_ms,
            characters,
        } = *usage;
        let counts = [
            (r#""input_tokens":"#, input_tokens),
            (r#""cached_input_tokens":"#, cached_input_tokens),
            (r#""cache_write_tokens":"#, cache_write_tokens),
            (r#""cache_write_1h_tokens":"#, cache_write_1h_tokens),
            (r#""output_tokens":"#, output_tokens),
            (r#""reasoning_tokens":"#, reasoning_tokens),
            (r#""input_audio_tokens":"#, input_audio_tokens),
            (r#""cached_audio_tokens":"#, cached_audio_tokens),
            (r#""output_audio_tokens":"#, output_audio_tokens),
            (r#""input_image_tokens":"#, input_image_tokens),
            (r#""cached_image_tokens":"#, cached_image_tokens),
            (r#""output_image_tokens":"#, output_image_tokens),
            (r#""input_video_tokens":"#, input_video_tokens),
            (r#""tool_input_tokens":"#, tool_input_tokens),
            (r#""web_searches":"#, web_searches),
            (r#""file_searches":"#, file_searches),
            (r#""search_units":"#, search_units),
            (r#""pages":"#, pages),
            (r#""audio_ms":"#, audio_ms),
            (r#""characters":"#, characters),
        ];
        self.raw(name);
        let mut before = "{";
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            self.raw(before);
            self.value(name, &count)?;
            before = ",";
        }
        // An object without members has not been opened yet.
        self.raw(if before == "{" { "{}" } else { "}" });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
