//! However an answer is cut into pieces, it reads the same and reaches the client whole.

use tollgate_core::policy::Operation;
use tollgate_core::usage::{Framing, Meter, Reading, Relay};

use crate::pieces::{Parts, pieces};

const OPERATIONS: [Operation; 19] = [
    Operation::ChatCompletions,
    Operation::Completions,
    Operation::Responses,
    Operation::Embeddings,
    Operation::ImageGenerations,
    Operation::Transcriptions,
    Operation::Speech,
    Operation::Messages,
    Operation::MessageBatchResults,
    Operation::BatchOutput,
    Operation::GenerateContent,
    Operation::EmbedContent,
    Operation::Converse,
    Operation::InvokeModel,
    Operation::CohereChat,
    Operation::CohereEmbed,
    Operation::Rerank,
    Operation::Ocr,
    Operation::OllamaChat,
];

const FRAMINGS: [Framing; 5] = [
    Framing::Document,
    Framing::Events,
    Framing::Lines,
    Framing::AwsEvents,
    Framing::Text,
];

/// Input: operation, framing (the high bit: whether the usage chunk is withheld), the lengths of
/// pieces up to a zero byte, and the answer.
pub fn usage(data: &[u8]) {
    let [operation, framing, data @ ..] = data else {
        return;
    };
    let operation = OPERATIONS[usize::from(*operation) % OPERATIONS.len()];
    let withhold = *framing >= 0x80;
    let framing = FRAMINGS[usize::from(framing & 0x7f) % FRAMINGS.len()];
    let cuts = Parts::of(data).bytes();
    let answer = data.get(cuts.len() + 1..).unwrap_or_default();
    let meter = || Meter::new(operation, framing, withhold);
    let (relayed, reading) = run(meter(), &[answer]);
    if !withhold {
        assert_eq!(relayed, answer, "the client gets other bytes");
    }
    assert!(relayed.len() <= answer.len(), "bytes were added");
    for cuts in [cuts, &[]] {
        let split = run(meter(), &pieces(answer, cuts));
        assert!(split.0 == relayed, "a split changes what is relayed");
        assert_eq!(split.1, reading, "a split changes what is read");
    }
}

fn run(mut meter: Meter, pieces: &[&[u8]]) -> (Vec<u8>, Reading) {
    let mut relayed = Vec::new();
    for piece in pieces {
        match meter.feed(piece) {
            Relay::Unchanged => relayed.extend_from_slice(piece),
            Relay::Instead(bytes) => relayed.extend_from_slice(bytes),
        }
    }
    relayed.extend(meter.end());
    (relayed, meter.finish())
}
