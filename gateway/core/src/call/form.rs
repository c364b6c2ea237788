//! Reads a `multipart/form-data` body that can be read in one way only.
//!
//! A form decides what a call costs just as JSON does, and readers of forms differ more than
//! readers of JSON. Whatever two of them could take differently is refused with `invalid_form`:
//! preambles and epilogues, lines that end in a bare LF, a boundary that occurs anywhere but
//! between parts, headers other than the three usual ones, transfer encodings, escapes in names,
//! and a judged field that occurs twice or poses as a file. This module does not know what a field
//! means.
//!
//! Worst case: one pass over the body and one entry per part, of which there may be [`MAX_PARTS`].
//! An unusual but honest client (a file name with a quote in it) may be refused.
//!
//! RFC 7578 defines forms, RFC 2046 section 5.1 multipart bodies.

use memchr::memmem;

use crate::refusal::Refusal;

/// The most parts a form may have. Providers take sixteen images and a dozen fields.
const MAX_PARTS: usize = 64;
/// The longest boundary that RFC 2046 allows.
const MAX_BOUNDARY_BYTES: usize = 70;

/// One part of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// The field's name.
    pub(super) name: &'a str,
    /// Whether it is given as a file.
    is_file: bool,
    /// Whether its type says that it is plain UTF-8 text, or nothing.
    is_text: bool,
    /// Its bytes.
    pub(super) content: &'a [u8],
}

/// The parts of one form, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form<'a> {
    parts: Vec<Part<'a>>,
}

impl<'a> Form<'a> {
    /// Takes a form apart.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] with `invalid_form`.
    pub(super) fn read(content_type: Option<&str>, body: &'a [u8]) -> Result<Self, Refusal> {
        let boundary = boundary(content_type.unwrap_or_default()).ok_or_else(|| {
            invalid("the content type is not multipart/form-data with a boundary")
        })?;
        let parts = split(boundary, body)
            .ok_or_else(|| invalid("the parts of the form are not cleanly separated"))?;
        if parts.len() > MAX_PARTS {
            return Err(invalid("the form has too many parts"));
        }
        let parts = parts.into_iter().map(part).collect::<Option<Vec<_>>>();
        let parts = parts.ok_or_else(|| {
            invalid("a part of the form has headers that could be read in two ways")
        })?;
        if parts.iter().any(|part| part.name == "_charset_") {
            return Err(invalid("a form is in UTF-8"));
        }
        Ok(Self { parts })
    }

    /// The text of the field `name`; `None` if it is absent or empty.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] with `invalid_form`: the field occurs twice, is spelled in another
    /// way, is given as a file, or is not plain text on one line.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut found = None;
        for part in &self.parts {
            let stem = part.name.split(['[', '.']).next().unwrap_or_default();
            if !stem.trim().eq_ignore_ascii_case(name) {
                continue;
            }
            if part.name != name || part.is_file || !part.is_text || found.is_some() {
                return Err(invalid(
                    "a field of the form that decides its cost must occur once, as plain text",
                ));
            }
            found = Some(part.content);
        }
        let Some(text) = found.map(std::str::from_utf8) else {
            return Ok(None);
        };
        match text {
            Ok(text) if text.trim() == text && !text.contains(char::is_control) => {
                Ok(Some(text).filter(|text| !text.is_empty()))
            }
            _ => Err(invalid(
                "a field of the form that decides its cost must be one line of UTF-8",
            )),
        }
    }

    /// The only part of this name, which is given as a file.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] with `invalid_form`: there is none, or more than one.
    pub(super) fn file(&self, name: &str) -> Result<&'a [u8], Refusal> {
        let mut named = self
            .parts
            .iter()
            .filter(|part| part.name.eq_ignore_ascii_case(name));
        match (named.next(), named.next()) {
            (Some(part), None) if part.is_file && part.name == name => Ok(part.content),
            _ => Err(invalid("the form must have exactly one such file")),
        }
    }

    /// Whether a field of this name occurs.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parts
            .iter()
            .any(|part| part.name.eq_ignore_ascii_case(name))
    }
}

/// The refusal of a form.
pub(super) fn invalid(detail: &'static str) -> Refusal {
    Refusal::Malformed {
        code: "invalid_form",
        detail,
    }
}

/// The boundary, where the type has that one parameter and it is spelled in a usual way.
fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameter) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("boundary") {
        return None;
    }
    let value = value.trim();
    let value = value
        .strip_prefix('"')
        .map_or(Some(value), |rest| rest.strip_suffix('"'))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_-./:?=".contains(&byte);
    let fits = (1..=MAX_BOUNDARY_BYTES).contains(&value.len()) && value.bytes().all(plain);
    fits.then_some(value)
}

/// What stands between the boundaries. Every place where the boundary occurs must be a separator
/// in its full form; the last must close the form.
fn split<'a>(boundary: &str, body: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let marker = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut open: Option<usize> = None;
    let mut closed = false;
    for at in memmem::find_iter(body, marker.as_bytes()) {
        let (before, after) = (body.get(..at)?, body.get(at.checked_add(marker.len())?..)?);
        if closed {
            return None;
        }
        match open {
            None if at != 0 => return None,
            None => {}
            Some(start) => {
                let end = before.strip_suffix(b"\r\n")?.len();
                parts.push(body.get(start..end)?);
                // A part is looked at once, so a flood of parts ends here.
                if parts.len() > MAX_PARTS {
                    return Some(parts);
                }
            }
        }
        if after.starts_with(b"\r\n") {
            open = Some(body.len().checked_sub(after.len())?.checked_add(2)?);
        } else if matches!(after, b"--" | b"--\r\n") && open.is_some() {
            closed = true;
        } else {
            return None;
        }
    }
    closed.then_some(parts)
}

/// A part's headers and content.
fn part(bytes: &[u8]) -> Option<Part<'_>> {
    let end = memmem::find(bytes, b"\r\n\r\n")?;
    let content = bytes.get(end.checked_add(4)?..)?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut part = None;
    let (mut is_text, mut types) = (true, 0_usize);
    for line in head.split("\r\n") {
        if line.contains(char::is_control) {
            return None;
        }
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-disposition") && part.is_none() {
            part = Some(disposition(value)?);
        } else if name.eq_ignore_ascii_case("content-type") && types == 0 {
            types = 1;
            let value = value.to_ascii_lowercase().replace([' ', '"'], "");
            is_text = matches!(value.as_str(), "text/plain" | "text/plain;charset=utf-8");
        } else if !(name.eq_ignore_ascii_case("content-length")
            && value.parse::<usize>() == Ok(content.len()))
        {
            return None;
        }
    }
    let (name, is_file) = part?;
    Some(Part {
        name,
        is_file,
        is_text,
        content,
    })
}

/// The name in `form-data; name="file"; filename="a.mp3"`, and whether there is a file name.
fn disposition(value: &str) -> Option<(&str, bool)> {
    let rest = value.strip_prefix("form-data")?;
    let (name, rest) = parameter(rest, "name")?;
    if rest.is_empty() {
        return Some((name, false));
    }
    let (_, rest) = parameter(rest, "filename")?;
    rest.is_empty().then_some((name, true))
}

/// The value of the next parameter, which must be `expected`, and what follows it. The value is
/// a quoted string without escapes or a plain token.
fn parameter<'a>(text: &'a str, expected: &str) -> Option<(&'a str, &'a str)> {
    let text = text.strip_prefix(';')?.trim_start_matches(' ');
    let text = text.strip_prefix(expected)?.strip_prefix('=')?;
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, rest) = quoted.split_once('"')?;
        let usable = !value.is_empty() && !value.contains('\\');
        return usable.then_some((value, rest));
    }
    let end = text.find(';').unwrap_or(text.len());
    let (value, rest) = text.split_at_checked(end)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
    (!value.is_empty() && value.bytes().all(plain)).then_some((value, rest))
}

#[cfg(test)]
mod tests;
