//! What is counted and priced, and which price a count is charged at.
//!
//! Every count of a [`Usage`] that costs anything becomes a [`Line`]: counts that exclude one
//! another, each with its unit. A unit without a price of its own is charged as a more general one
//! (audio as text, a cache read as plain input), so nothing counted becomes free by having no
//! price. Units that no count can tell apart (citations, video that comes out) are not known here,
//! and a model priced in one of them stays unpriced.

use super::PriceError;
use super::decimal::{Price, decimal};
use crate::usage::Usage;

/// What is counted and priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Unit {
    Input,
    CacheRead,
    CacheWrite,
    CacheWrite1h,
    InputAudio,
    CachedAudio,
    InputImage,
    CachedImage,
    InputVideo,
    Output,
    Reasoning,
    OutputAudio,
    OutputImage,
    AudioHours,
    InputAudioHours,
    Characters,
    Pages,
    AnnotatedPages,
    Rerank,
    WebSearch,
    FileSearch,
    Request,
}

/// By how many of a unit its price is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Per {
    /// Tokens and characters.
    Million,
    /// Pages, searches, requests.
    Thousand,
    /// Audio, which is counted in milliseconds.
    Hour,
}

impl Per {
    /// What a price of one pico-US-dollar for this many is worth for one, in units of [`Price`].
    const fn scale(self) -> i128 {
        match self {
            Self::Million => Price::SCALE / 1_000_000,
            Self::Thousand => Price::SCALE / 1_000,
            Self::Hour => Price::SCALE / 3_600_000,
        }
    }
}

use Unit::{
    AnnotatedPages, AudioHours, CacheRead, CacheWrite, CacheWrite1h, CachedAudio, CachedImage,
    Characters, FileSearch, Input, InputAudio, InputAudioHours, InputImage, InputVideo, Output,
    OutputAudio, OutputImage, Pages, Reasoning, Request, Rerank, WebSearch,
};

/// Each unit with the name of its price.
const KEYS: [(Unit, &str, Per); 22] = [
    (Input, "input_mtok", Per::Million),
    (CacheRead, "cache_read_mtok", Per::Million),
    (CacheWrite, "cache_write_mtok", Per::Million),
    (CacheWrite1h, "cache_write_1h_mtok", Per::Million),
    (InputAudio, "input_audio_mtok", Per::Million),
    (CachedAudio, "cache_audio_read_mtok", Per::Million),
    (InputImage, "input_image_mtok", Per::Million),
    (CachedImage, "cache_image_read_mtok", Per::Million),
    (InputVideo, "input_video_mtok", Per::Million),
    (Output, "output_mtok", Per::Million),
    (Reasoning, "output_reasoning_mtok", Per::Million),
    (OutputAudio, "output_audio_mtok", Per::Million),
    (OutputImage, "output_image_mtok", Per::Million),
    (AudioHours, "audio_hours", Per::Hour),
    (InputAudioHours, "input_audio_hours", Per::Hour),
    (Characters, "input_mchars", Per::Million),
    (Pages, "input_document_kpages", Per::Thousand),
    (
        AnnotatedPages,
        "input_annotated_document_kpages",
        Per::Thousand,
    ),
    (Rerank, "rerank_searches_kcount", Per::Thousand),
    (WebSearch, "web_searches_kcount", Per::Thousand),
    (FileSearch, "storage_searches_kcount", Per::Thousand),
    (Request, "requests_kcount", Per::Thousand),
];

impl Unit {
    /// How many there are.
    pub(super) const COUNT: usize = KEYS.len();

    /// The units that a model without any charge has at zero: every other one falls to these.
    pub(super) const ROOTS: [Self; 9] = [
        Input, Output, AudioHours, Characters, Pages, Rerank, WebSearch, FileSearch, Request,
    ];

    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        KEYS.iter().map(|&(unit, ..)| unit)
    }

    /// The unit whose price has this name.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        let mut keys = KEYS.iter();
        keys.find(|(_, name, _)| *name == key)
            .map(|&(unit, ..)| unit)
    }

    fn entry(self) -> (&'static str, Per) {
        let mut keys = KEYS.iter();
        keys.find(|(unit, ..)| *unit == self)
            .map_or(("", Per::Million), |&(_, key, per)| (key, per))
    }

    /// The name of its price, which also says by how many it is written.
    pub(super) fn key(self) -> &'static str {
        self.entry().0
    }

    /// Reads a price as it is written for this unit.
    pub(super) fn read(self, json: &str) -> Result<Price, PriceError> {
        let pico = decimal(json, 12)?;
        Ok(Price(pico.saturating_mul(self.entry().1.scale())))
    }

    /// A price as it is written for this unit, in pico-US-dollars.
    pub(super) fn written(self, price: Price) -> i128 {
        price.0.checked_div(self.entry().1.scale()).unwrap_or(0)
    }

    /// Whose prices it is charged at: the first that there is.
    pub(super) const fn chain(self) -> &'static [Self] {
        match self {
            Input => &[Input],
            CacheRead => &[CacheRead, Input],
            CacheWrite => &[CacheWrite, Input],
            CacheWrite1h => &[CacheWrite1h, CacheWrite, Input],
            InputAudio => &[InputAudio, Input],
            CachedAudio => &[CachedAudio, InputAudio, CacheRead, Input],
            InputImage => &[InputImage, Input],
            CachedImage => &[CachedImage, InputImage, CacheRead, Input],
            InputVideo => &[InputVideo, Input],
            Output => &[Output],
            Reasoning => &[Reasoning, Output],
            OutputAudio => &[OutputAudio, Output],
            OutputImage => &[OutputImage, Output],
            AudioHours => &[AudioHours],
            InputAudioHours => &[InputAudioHours, AudioHours],
            Characters => &[Characters],
            Pages => &[Pages],
            AnnotatedPages => &[AnnotatedPages, Pages],
            Rerank => &[Rerank],
            WebSearch => &[WebSearch],
            FileSearch => &[FileSearch],
            Request => &[Request],
        }
    }
}

/// A count of one unit.
pub(super) type Line = (Unit, u64);

/// The counts of tokens that exclude one another. Their sum is all input and all output.
///
/// `usage` must be [`Usage::consistent`]. Reasoning comes last: where the parts of the output
/// overlap, what is heard and seen is the dearer.
pub(super) fn token_lines(usage: &Usage, priced_apart: impl Fn(Unit) -> bool) -> [Line; 13] {
    let cached_text = usage
        .cached_input_tokens
        .saturating_sub(usage.cached_audio_tokens)
        .saturating_sub(usage.cached_image_tokens);
    let audio = usage
        .input_audio_tokens
        .saturating_sub(usage.cached_audio_tokens);
    let image = usage
        .input_image_tokens
        .saturating_sub(usage.cached_image_tokens);
    let plain = usage
        .input_tokens
        .saturating_sub(usage.cached_input_tokens)
        .saturating_sub(usage.cache_write_tokens)
        .saturating_sub(usage.cache_write_1h_tokens)
        .saturating_sub(audio)
        .saturating_sub(image)
        .saturating_sub(usage.input_video_tokens);
    let heard = usage.output_audio_tokens;
    let seen = usage.output_image_tokens;
    let rest = usage
        .output_tokens
        .saturating_sub(heard)
        .saturating_sub(seen);
    let reasoning = if priced_apart(Reasoning) {
        usage.reasoning_tokens.min(rest)
    } else {
        0
    };
    [
        (Input, plain),
        (CacheRead, cached_text),
        (CachedAudio, usage.cached_audio_tokens),
        (CachedImage, usage.cached_image_tokens),
        (CacheWrite, usage.cache_write_tokens),
        (CacheWrite1h, usage.cache_write_1h_tokens),
        (InputAudio, audio),
        (InputImage, image),
        (InputVideo, usage.input_video_tokens),
        (Output, rest.saturating_sub(reasoning)),
        (Reasoning, reasoning),
        (OutputAudio, heard),
        (OutputImage, seen),
    ]
}
