//! The changes that the gateway itself makes to a request: asking for usage, and writing a bound
//! on output. Every byte that is not named here goes on as the client wrote it.
//!
//! It does not decide whether to change a request, nor to what.

use super::{Ask, Request, anthropic, bedrock, cohere, gemini, ollama, openai};
use crate::json::{Edits, Fields};
use crate::policy::Operation;

/// The body with `stream_options.include_usage` set, where a streamed chat completion or
/// completion does not ask for usage itself; `None` where the body goes as it is. Every other byte
/// stays. A client that says no is overruled.
///
/// The chunk this adds to the answer is taken out again by `usage::Meter`.
#[must_use]
pub fn ask_for_usage(body: &[u8], ask: &Ask) -> Option<Vec<u8>> {
    let asks = matches!(
        ask.operation,
        Operation::ChatCompletions | Operation::Completions
    );
    if !asks || !ask.stream || ask.usage_asked {
        return None;
    }
    let fields = Fields::scan(body).ok()?;
    let mut edits = Edits::of(&fields);
    match fields.given("stream_options") {
        Some(options) => edits.set(&Fields::scan_text(options).ok()?, "include_usage", "true"),
        None => edits.set(&fields, "stream_options", r#"{"include_usage":true}"#),
    }
    Some(edits.apply())
}

/// The body with its output bounded to `max_output_tokens` per choice: every bound that is higher
/// is lowered, and where the operation's own field is missing it is added. Every other byte stays.
///
/// `None` where the operation has no such field, or where a bound in it would not hold or would
/// make the request invalid (a budget for thinking that does not fit below it).
#[must_use]
pub fn with_output_bound(body: &[u8], ask: &Ask, max_output_tokens: u64) -> Option<Vec<u8>> {
    let fields = Fields::scan(body).ok()?;
    let mut clamp = Clamp {
        edits: Edits::of(&fields),
        bound: max_output_tokens,
    };
    match ask.operation {
        Operation::ChatCompletions => {
            let (known, raising) = openai::chat_bounds(ask);
            clamp.within(&fields, known, raising);
        }
        Operation::Completions => {
            clamp.within(
                &fields,
                &openai::COMPLETION_BOUNDS,
                &openai::RAISING_COMPLETIONS,
            );
        }
        Operation::Responses => {
            clamp.within(
                &fields,
                &openai::RESPONSE_BOUNDS,
                &openai::RAISING_RESPONSES,
            );
        }
        Operation::Messages => clamp.within(&fields, &anthropic::BOUNDS, &[]),
        Operation::CohereChat => clamp.within(&fields, &cohere::BOUNDS, &[]),
        Operation::GenerateContent => clamp.below(&fields, &gemini::CONFIGS, &gemini::BOUNDS)?,
        Operation::OllamaChat => clamp.below(&fields, &[ollama::OPTIONS], &[ollama::BOUND])?,
        Operation::Converse => {
            clamp.below(&fields, &[bedrock::CONFIG], &["maxTokens"])?;
            if let Some(extra) = fields.given(bedrock::EXTRA) {
                clamp.lower(&Fields::scan_text(extra).ok()?, &bedrock::BOUNDS);
            }
        }
        Operation::InvokeModel => clamp.invocation(&fields)?,
        _ => return None,
    }
    let bounded = clamp.edits.apply();
    let request = Request {
        model_in_path: Some(&ask.model),
        max_tokens_alone: ask.max_tokens_alone,
        ..Request::json(&bounded)
    };
    // What is read back is what will be judged, so a bound that does not hold is seen here.
    let holds = Ask::parse(ask.operation, &request)
        .ok()?
        .max_output_tokens
        .is_some_and(|bound| bound <= max_output_tokens);
    holds.then_some(bounded)
}

struct Clamp<'a> {
    edits: Edits<'a>,
    bound: u64,
}

impl Clamp<'_> {
    /// Lowers the bounds of `object` that are higher, or that say there is none. Returns whether
    /// one is given.
    fn lower(&mut self, object: &Fields<'_>, names: &[&str]) -> bool {
        let mut given = false;
        for name in names {
            let Some(bound) = object.given(name) else {
                continue;
            };
            given = true;
            let low = bound
                .parse::<u64>()
                .is_ok_and(|bound| (1..=self.bound).contains(&bound));
            if !low {
                self.edits.set(object, name, &self.bound.to_string());
            }
        }
        given
    }

    /// Bounds an object by one of the `known` fields, of which the first is preferred; fields that
    /// only raise the bound are lowered too.
    fn within(&mut self, object: &Fields<'_>, known: &[&str], raising: &[&str]) {
        self.lower(object, raising);
        if self.lower(object, known) {
            return;
        }
        let present = known.iter().find(|name| object.raw(name).is_some());
        if let Some(name) = present.or(known.first()) {
            self.edits.set(object, name, &self.bound.to_string());
        }
    }

    /// Bounds an object by a field of an object in it. Where that has several spellings, each one
    /// that is used is bounded, since the provider may go by either.
    fn below(&mut self, object: &Fields<'_>, configs: &[&str], names: &[&str]) -> Option<()> {
        let mut found = false;
        for config in configs {
            if let Some(config) = object.given(config) {
                self.within(&Fields::scan_text(config).ok()?, names, &[]);
                found = true;
            }
        }
        if !found {
            let (config, name) = (configs.first()?, names.first()?);
            let value = format!(r#"{{"{name}":{}}}"#, self.bound);
            self.edits.set(object, config, &value);
        }
        Some(())
    }

    /// Bounds an invocation in the language that its fields show.
    fn invocation(&mut self, fields: &Fields<'_>) -> Option<()> {
        let mut bounded = self.lower(fields, &bedrock::BOUNDS);
        for name in bedrock::CONFIGS {
            if let Some(config) = fields.given(name) {
                bounded |= self.lower(&Fields::scan_text(config).ok()?, &bedrock::BOUNDS);
            }
        }
        if bounded {
            return Some(());
        }
        let given = |name: &str| fields.raw(name).is_some();
        if given("anthropic_version") {
            self.within(fields, &anthropic::BOUNDS, &[]);
        } else if given("textGenerationConfig") {
            self.below(fields, &["textGenerationConfig"], &["maxTokenCount"])?;
        } else if given(bedrock::CONFIG) || given("schemaVersion") {
            self.below(fields, &[bedrock::CONFIG], &["maxTokens"])?;
        } else {
            return None;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
