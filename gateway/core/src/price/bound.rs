//! The most a request can cost, before it is made.
//!
//! Input is bounded by the body's bytes, or by the context window where [`Input`] says that bytes
//! do not bound it; output by the request's own limit, else by the model's, else by its window,
//! else by the tenant's default; what is not a token by [`Ask::most`]. All of it is charged at the
//! dearest price that the provider may apply: context tier, service tier, cache writes, audio.
//!
//! Worst case: a catalogue that understates a price or a window makes the bound too low by as
//! much. So does an account setting that no request shows, such as a project whose calls are
//! served as priority, or a workspace whose home is a dearer region. The cost settled is still
//! the exact one.

use super::rates::{Card, Rates, SCALE, round_up};
use super::units::Unit;
use crate::call::{Ask, CacheWrite, Input, Terms};
use crate::money::PicoUsd;
use crate::policy::Operation;

/// Tokens that providers add to the prompt when tools are defined, at most. Anthropic states up to
/// 735 for tool use with computer use and 499 to 700 for its own editor and shell tools.
const TOOL_PROMPT_TOKENS: u64 = 2_048;
/// Context window assumed where the catalogue knows none: the largest in common use.
const UNKNOWN_CONTEXT_TOKENS: u64 = 1_000_000;
/// Input assumed where the provider may loop. Real answers with server tools report the sum of
/// all internal calls, up to 494,549 tokens on a model with a window of 200,000.
const LOOP_INPUT_TOKENS: u64 = 1_000_000;
/// Tokens that one picture is billed as, at most: 48,169 on gpt-4o-mini, for which OpenAI bills more
/// than the window holds; below 17,000 elsewhere.
const PICTURE_TOKENS: u64 = 50_000;
/// Bytes that naming an output bound adds to a body, at most:
/// `"generationConfig":{"maxOutputTokens":9007199254740992},` and space.
const BOUND_FIELD_BYTES: u64 = 64;
/// Tokens of speech per character, and per text however short. A spoken minute is 1,250 tokens and
/// some 900 characters of English; this is six times as slow.
const SPEECH_TOKENS_PER_CHARACTER: u64 = 8;
const SPEECH_TOKENS: u64 = 512;
/// The most one call is taken to cost: 9.2 million US dollars, the range of 64 bits.
pub const MOST: PicoUsd = PicoUsd::new(i64::MAX as i128);
/// The largest count that any JSON reader takes (2⁵³).
const MAX_COUNT: u64 = 1 << 53;

/// What a request can cost under one set of terms, in the unit of sums.
struct Worst {
    /// Everything but output.
    fixed: i128,
    /// Per token of output.
    output: i128,
}

impl Rates {
    /// The most this request can cost, rounded up, and at most [`MOST`], so that absurd bounds
    /// stay sums that every store can hold. An operation that is not covered costs [`MOST`].
    #[must_use]
    pub fn worst_case(&self, ask: &Ask, default_max_output: u64) -> PicoUsd {
        if !self.covers(ask.operation) {
            return MOST;
        }
        let output = i128::from(self.output_bound(ask, default_max_output));
        let mut most = 0;
        self.each_worst(ask, self.input_bound(ask), |worst| {
            most = most.max(
                worst
                    .fixed
                    .saturating_add(output.saturating_mul(worst.output)),
            );
        });
        round_up(most).min(MOST)
    }

    /// The largest bound on output tokens, per choice, with which the same request costs at most
    /// `available`, the bytes of naming it included.
    /// `None` if not even one token fits, or a request cannot bound its output.
    #[must_use]
    pub fn largest_output_bound(&self, ask: &Ask, available: PicoUsd) -> Option<u64> {
        if !bounds_output(ask.operation) || !self.covers(ask.operation) {
            return None;
        }
        // Also where it states one: the next may stand in another field beside it.
        let asked_again = Ask {
            body_bytes: ask.body_bytes.saturating_add(BOUND_FIELD_BYTES),
            ..ask.clone()
        };
        let available = available.min(MOST).as_pico().checked_mul(SCALE)?;
        let mut tokens = Some(MAX_COUNT);
        self.each_worst(&asked_again, self.input_bound(&asked_again), |worst| {
            let left = available.saturating_sub(worst.fixed);
            let fits = match left.checked_div(worst.output) {
                _ if left < 0 => None,
                None => Some(MAX_COUNT),
                Some(fits) => Some(u64::try_from(fits).unwrap_or(MAX_COUNT)),
            };
            tokens = tokens.zip(fits).map(|(least, fits)| least.min(fits));
        });
        let per_choice = tokens?.checked_div(ask.choices.max(1))?;
        let bound = per_choice.checked_sub(predicted(&asked_again))?;
        (bound > 0).then_some(bound.min(MAX_COUNT))
    }

    /// Calls `visit` with the worst of each set of terms that can be reached.
    fn each_worst(&self, ask: &Ask, input_tokens: u64, mut visit: impl FnMut(Worst)) {
        let annotated = is_annotated(ask);
        self.each_reachable(&ask.terms, |card: Card<'_>| {
            let input = card.dearest(input_units(ask), input_tokens);
            let others = card.others(&ask.most, self.model.least_audio_ms, annotated);
            visit(Worst {
                fixed: i128::from(input_tokens)
                    .saturating_mul(input)
                    .saturating_add(others),
                output: card.dearest(&OUTPUT_UNITS, input_tokens),
            });
        });
    }

    /// The most tokens that can go in.
    pub(super) fn input_bound(&self, ask: &Ask) -> u64 {
        let window = self.model.context_window.unwrap_or(UNKNOWN_CONTEXT_TOKENS);
        let pictures = ask.pictures.saturating_mul(PICTURE_TOKENS);
        let others = match (ask.operation, ask.input) {
            (Operation::Ocr, _) => 0,
            // Their bytes are audio, whose tokens follow from its length.
            (Operation::Transcriptions, _) => window,
            // What else the bytes of pictures bound is within the window.
            (_, Input::Bounded) if ask.pictures > 0 => ask
                .body_bytes
                .saturating_add(TOOL_PROMPT_TOKENS)
                .min(window),
            (_, Input::Bounded) if ask.tools => ask.body_bytes.saturating_add(TOOL_PROMPT_TOKENS),
            (_, Input::Bounded) => ask.body_bytes,
            (_, Input::Referenced) => window,
            (_, Input::Looping) => window.max(LOOP_INPUT_TOKENS),
        };
        others.saturating_add(pictures)
    }

    /// Whether pictures that come out have a price of their own.
    fn draws(&self) -> bool {
        self.card(&Terms::default()).has(Unit::OutputImage)
    }

    /// The most tokens that can come out, over all choices.
    pub(super) fn output_bound(&self, ask: &Ask, default_max_output: u64) -> u64 {
        let asked = match ask.operation {
            Operation::Embeddings
            | Operation::EmbedContent
            | Operation::CohereEmbed
            | Operation::OllamaEmbed
            | Operation::Rerank
            | Operation::Ocr => Some(0),
            Operation::Transcriptions | Operation::Speech => None,
            // Such a model draws without being told to, and no source says that the bound covers it.
            Operation::GenerateContent if self.draws() => None,
            _ => ask.max_output_tokens,
        };
        let each = asked
            .or(self.max_output_tokens)
            .or(self.model.context_window)
            .unwrap_or(default_max_output);
        let each = if ask.operation == Operation::Speech && ask.most.characters > 0 {
            let spoken = ask
                .most
                .characters
                .saturating_mul(SPEECH_TOKENS_PER_CHARACTER);
            each.min(spoken.saturating_add(SPEECH_TOKENS))
        } else {
            each
        };
        each.saturating_add(predicted(ask))
            .saturating_mul(ask.choices.max(1))
    }
}

/// Whether annotations of its pages are asked for, which [`Ask::tools`] says of such requests.
pub(super) fn is_annotated(ask: &Ask) -> bool {
    ask.operation == Operation::Ocr && ask.tools
}

/// Whether a request of this kind can bound the tokens that come out.
pub(super) const fn bounds_output(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::ChatCompletions
            | Operation::Completions
            | Operation::Responses
            | Operation::Messages
            | Operation::GenerateContent
            | Operation::Converse
            | Operation::InvokeModel
            | Operation::CohereChat
            | Operation::OllamaChat
    )
}

const OUTPUT_UNITS: [Unit; 4] = [
    Unit::Output,
    Unit::Reasoning,
    Unit::OutputAudio,
    Unit::OutputImage,
];

/// What input tokens of a request may be charged as.
///
/// Anthropic's models write caches only where they are asked to; others do it of themselves.
/// OpenAI's dialect carries audio within the body, so that bytes bound its tokens and not its
/// price; the others count as referenced when they hold anything but text.
fn input_units(ask: &Ask) -> &'static [Unit] {
    // Each kind of request adds to what the one before may be charged as.
    const ALL: &[Unit] = &[
        Unit::Input,
        Unit::CacheRead,
        Unit::InputAudio,
        Unit::CachedAudio,
        Unit::InputImage,
        Unit::CachedImage,
        Unit::InputVideo,
        Unit::CacheWrite,
        Unit::CacheWrite1h,
    ];
    const TEXT: usize = 2;
    const MEDIA: usize = 7;
    const MEDIA_AND_WRITES: usize = 8;
    let asked_to_write = match ask.operation {
        Operation::Messages | Operation::Converse | Operation::InvokeModel => ask.cache_write,
        Operation::GenerateContent => CacheWrite::Unasked,
        // Compatible servers take Anthropic's breakpoints too.
        _ => CacheWrite::OneHour,
    };
    let count = match (asked_to_write, ask.input) {
        (CacheWrite::OneHour, _) => ALL.len(),
        (CacheWrite::FiveMinutes, _) => MEDIA_AND_WRITES,
        (CacheWrite::Unasked, Input::Bounded) if ask.pictures == 0 => TEXT,
        (CacheWrite::Unasked, _) => MEDIA,
    };
    ALL.get(..count).unwrap_or(ALL)
}

/// Tokens of predicted output that may be rejected and still billed, per choice.
fn predicted(ask: &Ask) -> u64 {
    if ask.prediction { ask.body_bytes } else { 0 }
}
