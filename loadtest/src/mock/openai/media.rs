//! Answers of OpenAI's endpoints for images and sound.
//!
//! An image is one pixel and a sound is silence; what they cost is told as for text. Without a word
//! about it, usage is of the size that such calls have.

use serde_json::{Value, json};

use crate::mock::CREATED;
use crate::mock::answer::Answer;
use crate::mock::ask::Ask;
use crate::mock::frames::{Event, Framing};
use crate::mock::seen::Billed;

/// A PNG of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// The start of an MP3 frame of silence.
const SILENCE: &[u8] = &[0xff, 0xfb, 0x90, 0x64, 0, 0, 0, 0, 0, 0, 0, 0];

/// How long every sound is that is heard.
const SECONDS: u64 = 29;

/// `POST /v1/images/generations` and `/v1/images/edits`.
pub(crate) fn images(ask: &Ask<'_>, edit: bool) -> Answer {
    let (input, output) = ask.steering.usage.unwrap_or((50, 1056));
    let billed = Billed {
        input,
        output,
        ..Billed::default()
    };
    let mut usage = json!({
        "input_tokens": input,
        "input_tokens_details": {"text_tokens": input, "image_tokens": 0},
        "output_tokens": output,
        "total_tokens": input + output,
    });
    if ask.model().starts_with("gpt-image-1.5") {
        usage["output_tokens_details"] = json!({"image_tokens": output, "text_tokens": 0});
    }
    if !ask.streams() {
        let n = match ask.body.get("n") {
            Some(Value::String(n)) => n.parse().unwrap_or(1),
            n => n.and_then(Value::as_u64).unwrap_or(1),
        };
        let data: Vec<_> = (0..n.clamp(1, 10))
            .map(|_| json!({"b64_json": PIXEL}))
            .collect();
        let mut body = json!({
            "created": CREATED, "background": "opaque", "data": data,
            "output_format": "png", "quality": "medium", "size": "1024x1024",
        });
        // The older models are paid by the image and state nothing.
        if ask.model().starts_with("gpt-image") {
            body["usage"] = usage;
        }
        return Answer::of(body, billed);
    }
    let (partial, completed) = if edit {
        ("image_edit.partial_image", "image_edit.completed")
    } else {
        (
            "image_generation.partial_image",
            "image_generation.completed",
        )
    };
    let picture = |kind: &'static str, more: Value| {
        let mut body = json!({
            "type": kind, "b64_json": PIXEL, "background": "opaque", "created_at": CREATED,
            "output_format": "png", "quality": "medium", "size": "1024x1024",
        });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        Event::Named(kind, body)
    };
    let events = vec![
        picture(partial, json!({"partial_image_index": 0})),
        picture(completed, json!({"usage": usage})),
    ];
    Answer::stream(Framing::NamedData, events, error(), billed)
}

/// `POST /v1/audio/transcriptions` and `/v1/audio/translations`.
pub(crate) fn transcription(ask: &Ask<'_>) -> Answer {
    let (input, output) = ask.tokens();
    let by_time = ask.model().contains("whisper");
    let (usage, billed) = if by_time {
        let billed = Billed {
            audio_ms: SECONDS * 1000,
            ..Billed::default()
        };
        (json!({"type": "duration", "seconds": SECONDS}), billed)
    } else {
        let text = input.min(2);
        let usage = json!({
            "type": "tokens",
            "input_tokens": input,
            "input_token_details": {"text_tokens": text, "audio_tokens": input - text},
            "output_tokens": output,
            "total_tokens": input + output,
        });
        let billed = Billed {
            input,
            output,
            ..Billed::default()
        };
        (usage, billed)
    };
    if ask.streams() {
        let mut events: Vec<_> = ask
            .pieces()
            .into_iter()
            .map(|piece| {
                let body = json!({"type": "transcript.text.delta", "delta": piece});
                Event::Named("", body)
            })
            .collect();
        let done = json!({"type": "transcript.text.done", "text": ask.text, "usage": usage});
        events.push(Event::Named("", done));
        return Answer::stream(Framing::Data, events, error(), billed);
    }
    match ask.body.get("response_format").and_then(Value::as_str) {
        Some("text" | "srt" | "vtt") => {
            Answer::bytes("text/plain; charset=utf-8", format!("{}\n", ask.text)).costs(billed)
        }
        Some("verbose_json") => {
            let body = json!({
                "task": "transcribe", "language": "english", "duration": SECONDS as f64,
                "text": ask.text, "segments": [], "usage": usage,
            });
            Answer::of(body, billed)
        }
        _ => Answer::of(json!({"text": ask.text, "usage": usage}), billed),
    }
}

/// `POST /v1/audio/speech`.
pub(crate) fn speech(ask: &Ask<'_>) -> Answer {
    let spoken = ask.body.get("input").and_then(Value::as_str);
    let (input, output) = ask.tokens();
    let by_character = ask.model().starts_with("tts-");
    let billed = if by_character {
        Billed {
            characters: spoken.map_or(0, |text| text.chars().count() as u64),
            ..Billed::default()
        }
    } else {
        ask.counts().inclusive()
    };
    if ask.body.get("stream_format").and_then(Value::as_str) != Some("sse") {
        return Answer::bytes("audio/mpeg", SILENCE).costs(billed);
    }
    let usage =
        json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output});
    let events = vec![
        Event::Named(
            "",
            json!({"type": "speech.audio.delta", "audio": "//uQZAAA"}),
        ),
        Event::Named("", json!({"type": "speech.audio.done", "usage": usage})),
    ];
    Answer::stream(Framing::Data, events, error(), billed)
}

fn error() -> Event {
    let error = json!({"code": "server_error", "message": "mock error", "type": "server_error", "param": null});
    Event::Named("error", json!({"type": "error", "error": error}))
}
