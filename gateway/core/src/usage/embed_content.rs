//! Usage in embeddings of Gemini and Vertex AI.
//!
//! `:embedContent` and `:batchEmbedContents` state `usageMetadata`, `:predict` states the tokens
//! of each prediction. Older models state nothing, and their usage is unknown.
//!
//! Worst case: predictions of which only some state their tokens are partial.
//!
//! Source: Gemini API reference, "Embeddings"; Vertex AI, "Text embeddings API".

use serde::Deserialize;
use serde_json::value::RawValue;

use super::gemini::Modalities;
use super::text::{Count, if_understood, is_sound, part};
use super::{Metered, Reading, Usage, tally};

/// What one answer has said so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    metered: Option<Metered>,
    output_bytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(default, borrow)]
    usage_metadata: Option<&'a RawValue>,
    #[serde(default, borrow)]
    predictions: Option<&'a RawValue>,
}

/// `usageMetadata`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Stated {
    prompt_token_count: Count,
    total_token_count: Count,
    #[serde(deserialize_with = "if_understood")]
    prompt_token_details: Option<Modalities>,
    #[serde(deserialize_with = "if_understood")]
    prompt_tokens_details: Option<Modalities>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Prediction {
    embeddings: Option<Embeddings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Embeddings {
    statistics: Option<Statistics>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Statistics {
    token_count: Count,
}

impl tally::Tally for Tally {
    fn event(&mut self, data: &[u8]) -> bool {
        self.body(data);
        false
    }

    fn body(&mut self, bytes: &[u8]) {
        let Ok(body) = serde_json::from_slice::<Body<'_>>(bytes) else {
            return;
        };
        let sound = body.usage_metadata.is_none_or(is_sound);
        let stated = part::<Stated>(body.usage_metadata).and_then(|stated| stated.usage());
        let stated = stated.map(|usage| {
            if sound {
                Metered::Exact(usage)
            } else {
                Metered::Partial(usage)
            }
        });
        self.metered = stated.or_else(|| predicted(&part::<Vec<Prediction>>(body.predictions)?));
    }

    fn unread(&mut self, bytes: usize) {
        self.output_bytes = self
            .output_bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn reads_lists(&self) -> bool {
        true
    }

    fn finish(self: Box<Self>) -> Reading {
        Reading {
            metered: self.metered.unwrap_or(Metered::Unknown),
            output_bytes: self.output_bytes,
            ..Reading::nothing()
        }
    }
}

impl Stated {
    fn usage(&self) -> Option<Usage> {
        let details = self.prompt_token_details.or(self.prompt_tokens_details);
        let parts = details.unwrap_or_default();
        let stated = self.prompt_token_count.or(self.total_token_count).0;
        let usage = Usage {
            input_tokens: stated.or(details.map(|details| details.all))?,
            input_audio_tokens: parts.audio,
            input_image_tokens: parts.image,
            input_video_tokens: parts.video,
            ..Usage::default()
        };
        Some(usage.consistent())
    }
}

fn predicted(predictions: &[Prediction]) -> Option<Metered> {
    let counts = predictions.iter().map(|prediction| {
        let statistics = prediction.embeddings.as_ref()?.statistics.as_ref()?;
        statistics.token_count.0
    });
    let known: Vec<u64> = counts.flatten().collect();
    let usage = Usage {
        input_tokens: known
            .iter()
            .fold(0_u64, |sum, count| sum.saturating_add(*count)),
        ..Usage::default()
    };
    match known.len() {
        0 => None,
        count if count == predictions.len() => Some(Metered::Exact(usage)),
        _ => Some(Metered::Partial(usage)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Operation;
    use crate::usage::{Framing, Meter};

    fn read(text: &str) -> Reading {
        let mut meter = Meter::new(Operation::EmbedContent, Framing::Document, false);
        let _ = meter.feed(text.as_bytes());
        meter.finish()
    }

    fn tokens(input_tokens: u64) -> Usage {
        Usage {
            input_tokens,
            ..Usage::default()
        }
    }

    #[test]
    fn usage_metadata_is_read_beside_a_vector() {
        let text = r#"{"embedding":{"values":[0.1,-0.2]},"usageMetadata":{"promptTokenCount":7,
            "promptTokenDetails":[{"modality":"TEXT","tokenCount":4},
                {"modality":"IMAGE","tokenCount":3}]}}"#;
        let usage = Usage {
            input_image_tokens: 3,
            ..tokens(7)
        };
        assert_eq!(read(text).metered, Metered::Exact(usage));
    }

    #[test]
    fn details_alone_are_summed() {
        let text = r#"{"embeddings":[{"values":[1]}],"usageMetadata":{
            "promptTokenDetails":[{"modality":"TEXT","tokenCount":4},{"tokenCount":3}]}}"#;
        assert_eq!(read(text).metered, Metered::Exact(tokens(7)));
    }

    #[test]
    fn predictions_are_summed_and_final_if_each_is_counted() {
        let one = |count: &str| {
            format!("{{\"embeddings\":{{\"values\":[0.5],\"statistics\":{{{count}}}}}}}")
        };
        let (six, three, none) = (
            one("\"token_count\":6"),
            one("\"token_count\":3.0"),
            one(""),
        );
        let body = |parts: &[&String]| {
            let parts: Vec<&str> = parts.iter().map(|part| part.as_str()).collect();
            format!("{{\"predictions\":[{}]}}", parts.join(","))
        };
        let reading = read(&body(&[&six, &three]));
        assert_eq!(reading.metered, Metered::Exact(tokens(9)));
        let reading = read(&body(&[&six, &none]));
        assert_eq!(reading.metered, Metered::Partial(tokens(6)));
    }

    #[test]
    fn an_answer_that_states_nothing_is_unknown_but_not_empty() {
        for text in [
            r#"{"embedding":{"values":[0.1]}}"#,
            r#"{"predictions":[{"textEmbedding":[0.1]}]}"#,
            r#"{"usageMetadata":{}}"#,
            r#"{"usageMetadata":{"promptTokenCount":5}"#,
        ] {
            let reading = read(text);
            assert_eq!(reading.metered, Metered::Unknown, "{text}");
            assert!(reading.output_bytes > 0);
        }
    }

    #[test]
    fn vectors_of_any_number_leave_room_for_the_usage() {
        let vector = format!("{{\"values\":[{}0]}},", "-0.015625,".repeat(3_000));
        let text = format!(
            "{{\"embeddings\":[{}{{}}],\"usageMetadata\":{{\"promptTokenCount\":9}}}}",
            vector.repeat(400)
        );
        assert!(text.len() > crate::usage::MAX_BODY_BYTES);
        assert_eq!(read(&text).metered, Metered::Exact(tokens(9)));
    }
}
