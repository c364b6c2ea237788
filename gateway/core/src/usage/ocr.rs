//! Usage in answers of Mistral's OCR: pages.
//!
//! Source: Mistral API reference, "OCR", `usage_info`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::text::{Count, Text, part};
use super::{Metered, Reading, Usage, tally};

/// What one answer has said. It is never a stream.
#[derive(Debug, Default)]
pub(super) struct Ocr {
    model: Option<String>,
    pages: Count,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer<'a> {
    #[serde(borrow)]
    model: Text<'a>,
    #[serde(borrow)]
    usage_info: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UsageInfo {
    pages_processed: Count,
}

impl tally::Tally for Ocr {
    fn event(&mut self, data: &[u8]) -> bool {
        self.body(data);
        false
    }

    fn body(&mut self, bytes: &[u8]) {
        if let Ok(answer) = serde_json::from_slice::<Answer<'_>>(bytes) {
            answer.model.put_into(&mut self.model);
            let info: UsageInfo = part(answer.usage_info).unwrap_or_default();
            self.pages = info.pages_processed.or(self.pages);
        }
    }

    fn unread(&mut self, _: usize) {}

    fn finish(self: Box<Self>) -> Reading {
        let usage = |pages| Usage {
            pages,
            ..Usage::default()
        };
        Reading {
            metered: self
                .pages
                .0
                .map_or(Metered::Unknown, |pages| Metered::Exact(usage(pages))),
            response_model: self.model,
            ..Reading::nothing()
        }
    }
}
