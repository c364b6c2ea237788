//! Mistral's own operation: reading documents. Its chat is in OpenAI's dialect.
//!
//! It does not see the document, which is usually an address.

use super::read::{elements, length};
use super::{Ask, Input};
use crate::json::Fields;

/// The most pages that one document may have, as Mistral's documentation of OCR states it.
const MAX_PAGES: u64 = 1_000;

/// Reads a request to read a document.
pub(super) fn read_ocr(ask: &mut Ask, fields: &Fields<'_>) {
    ask.max_output_tokens = Some(0);
    ask.widen(Input::Referenced);
    let listed = fields
        .given("pages")
        .and_then(elements)
        .map(|pages| length(pages.len()))
        .filter(|&pages| pages > 0);
    let pages = listed.map_or(MAX_PAGES, |pages| pages.min(MAX_PAGES));
    ask.most.pages = pages;
    // Annotated pages have a price of their own.
    ask.tools = ["document_annotation_format", "bbox_annotation_format"]
        .iter()
        .any(|name| fields.is_given(name));
}
