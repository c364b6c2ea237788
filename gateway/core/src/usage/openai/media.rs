//! Usage in OpenAI images, transcriptions and speech.
//!
//! - A stream of images states usage with each finished image: all are billed.
//! - Transcriptions state tokens, or the length of audio in seconds, which `duration` also gives in
//!   verbose answers. Groq bills at least ten seconds and says only `duration`. Plain text and
//!   subtitles state nothing.
//! - Speech states usage in the last event of a stream. As a file of audio it states nothing.
//! - Where an answer does not say which tokens are images or audio, all those that could be are
//!   taken for it, the dearer kind.
//!
//! Source: OpenAI API reference, "Images", "Audio" and their streaming events; Groq pricing page.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::chat::judge_tokens;
use super::{Account, Stated};
use crate::policy::Operation;
use crate::usage::text::{Count, Text, TextBytes, scaled};
use crate::usage::{Reading, Usage, tally};

/// The least that Groq bills for a transcription.
const GROQ_MIN_AUDIO_MS: u64 = 10_000;

/// What one answer has said so far.
#[derive(Debug)]
pub(in crate::usage) struct Media {
    account: Account,
    operation: Operation,
}

/// An event, or a plain answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    model: Text<'a>,
    delta: TextBytes,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    duration: Option<&'a RawValue>,
    #[serde(borrow)]
    x_groq: Option<&'a RawValue>,
}

impl Media {
    pub(in crate::usage) fn new(operation: Operation) -> Self {
        Self {
            account: Account::default(),
            operation,
        }
    }

    fn take_final(&mut self, answer: &Answer<'_>) {
        let stated = answer.usage.map(Stated::read);
        let duration = answer.duration.and_then(|raw| scaled(raw.get(), 3));
        if stated.is_some() || duration.is_some() {
            let mut stated = stated.unwrap_or_default();
            stated.audio_ms = stated.audio_ms.or(Count(duration));
            if answer.x_groq.is_some() {
                let billed = stated.audio_ms.0.map(|ms| ms.max(GROQ_MIN_AUDIO_MS));
                stated.audio_ms = Count(billed);
            }
            self.account.add(stated);
        }
        self.account.end();
    }
}

impl tally::Tally for Media {
    fn event(&mut self, data: &[u8]) -> bool {
        if data.is_empty() || data == b"[DONE]" {
            return false;
        }
        let Ok(event) = serde_json::from_slice::<Answer<'_>>(data) else {
            self.account.unread(data.len());
            return false;
        };
        self.account.name(&event.model, &Text::default());
        self.account.generated(event.delta);
        if matches!(
            event.kind.as_deref(),
            Some(
                "image_generation.completed"
                    | "image_edit.completed"
                    | "transcript.text.done"
                    | "speech.audio.done"
            )
        ) {
            self.take_final(&event);
        }
        false
    }

    fn body(&mut self, bytes: &[u8]) {
        if let Ok(answer) = serde_json::from_slice::<Answer<'_>>(bytes) {
            self.account.name(&answer.model, &Text::default());
            self.take_final(&answer);
        }
    }

    fn unread(&mut self, bytes: usize) {
        self.account.unread(bytes);
    }

    fn finish(self: Box<Self>) -> Reading {
        self.account.reading(match self.operation {
            Operation::Transcriptions => judge_transcription,
            Operation::Speech => judge_speech,
            _ => judge_images,
        })
    }
}

pub(super) fn judge_images(stated: &Stated) -> Option<(Usage, bool)> {
    let (mut usage, whole) = judge_tokens(stated)?;
    if !stated.tells_output_kinds() {
        usage.output_image_tokens = usage.output_tokens;
    }
    Some((usage, whole))
}

fn judge_speech(stated: &Stated) -> Option<(Usage, bool)> {
    let (mut usage, whole) = judge_tokens(stated)?;
    if !stated.tells_output_kinds() {
        usage.output_audio_tokens = usage.output_tokens;
    }
    Some((usage, whole))
}

/// Tokens where they are stated, else the length of the audio; never both.
fn judge_transcription(stated: &Stated) -> Option<(Usage, bool)> {
    if let Some((mut usage, whole)) = judge_tokens(stated) {
        if !stated.tells_input_kinds() {
            usage.input_audio_tokens = usage.input_tokens;
        }
        return Some((usage, whole));
    }
    let audio_ms = stated.audio_ms.0?;
    let usage = Usage {
        audio_ms,
        ..Usage::default()
    };
    Some((usage, true))
}
