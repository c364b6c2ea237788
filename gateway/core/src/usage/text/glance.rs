//! The same readings where an answer has its usual shape, in one pass over its bytes.
//!
//! What is `None` here is left to the lenient readers, which these agree with.

use super::{Choice, Choices, Key, Text, TextBytes};
use crate::json::Glance;

impl<'a> Text<'a> {
    pub(in crate::usage) fn glance(glance: &mut Glance<'a>) -> Option<Self> {
        if glance.peek()? == b'n' {
            return glance.skip().map(|()| Self(None));
        }
        let text = std::str::from_utf8(glance.quoted()?.plain()?).ok()?;
        Some(Self(Some(text.into())))
    }
}

impl TextBytes {
    fn glance(glance: &mut Glance<'_>) -> Option<Self> {
        let mut sum = 0_u64;
        let mut add = |Self(bytes)| sum = sum.saturating_add(bytes);
        match glance.peek()? {
            b'"' => add(Self(glance.quoted()?.bytes.try_into().ok()?)),
            b'[' => glance.list(|item| Self::glance(item).map(&mut add))?,
            b'{' => glance.object(|value, key| match Key::of(key) {
                Key::Content => Self::glance(value).map(&mut add),
                Key::FinishReason | Key::Label => value.skip(),
            })?,
            _ => glance.skip()?,
        }
        Some(Self(sum))
    }
}

impl Choice {
    fn glance(glance: &mut Glance<'_>) -> Option<Self> {
        let mut choice = Self::default();
        glance.object(|value, key| {
            match Key::of(key) {
                Key::FinishReason => {
                    choice.finished |= value.peek()? != b'n';
                    value.skip()?;
                }
                Key::Label => value.skip()?,
                Key::Content => {
                    let TextBytes(bytes) = TextBytes::glance(value)?;
                    choice.text.0 = choice.text.0.saturating_add(bytes);
                }
            }
            Some(())
        })?;
        Some(choice)
    }
}

impl Choices {
    pub(in crate::usage) fn glance(glance: &mut Glance<'_>) -> Option<Self> {
        let mut all = Self {
            empty: true,
            ..Self::default()
        };
        glance.list(|item| {
            let Choice { finished, text } = Choice::glance(item)?;
            all.empty = false;
            all.finished |= finished;
            all.text.0 = all.text.0.saturating_add(text.0);
            Some(())
        })?;
        Some(all)
    }
}
