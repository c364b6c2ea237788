//! The price files that are compiled in. The catalogue is the only large one; the build script
//! compresses it, and it is inflated when the prices are read.

use std::io::Read as _;

use super::PriceError;

/// As of when the catalogue that is compiled in is; goes with its file.
pub const CATALOGUE_AS_OF: &str = "2026-11-23T00:00:00Z";

/// Corrections to the catalogue.
pub(super) const OVERLAY: &str = include_str!("../../prices/price_overlay.json");
/// The most output of models that do not say so themselves.
pub(super) const MAX_OUTPUT_TOKENS: &str = include_str!("../../prices/max_output_tokens.json");
const CATALOGUE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/catalogue.json.zz"));

/// The catalogue's text.
pub(super) fn catalogue() -> Result<String, PriceError> {
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(CATALOGUE)
        .read_to_string(&mut text)
        .map_err(|damaged| PriceError::BadShape(damaged.to_string()))?;
    Ok(text)
}
