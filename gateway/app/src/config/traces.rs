//! `[traces]`: the OpenTelemetry collector that spans of calls go to, and of which calls.
//!
//! How one speaks to a collector is read as for records (`otlp`).

use std::fmt;
use std::path::Path;

use tollgate_core::policy::reader::{self, Read, Section};
use tollgate_core::trace::Sampling;
use toml::de::DeValue;

use super::InsecureSettings;
use super::otlp::OtlpSettings;
use super::print::escaped;

/// Where spans go, and of which calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TracesSettings {
    /// Where.
    pub(crate) collector: OtlpSettings,
    /// Of which calls.
    pub(crate) sampling: Sampling,
    /// What is said of all of them besides.
    pub(crate) attributes: Vec<(String, String)>,
}

/// Where collectors take spans over HTTP.
const TRACES: &str = "/v1/traces";

/// What the gateway alone can say.
const OWN: [&str; 3] = ["tenant.id", "service.version", "service.instance.id"];

impl TracesSettings {
    /// Reads `[traces]`. What is wrong with it is noted.
    pub(super) fn read(
        section: &Section<'_>,
        dir: &Path,
        insecure: InsecureSettings,
    ) -> Option<Self> {
        let ratio = section.optional("sample_ratio", ratio);
        let follow = section.optional("follow_parent", reader::boolean);
        let mut attributes = Vec::new();
        for (name, at, value) in section.values("attributes", reader::text) {
            if OWN.contains(&name) {
                let why = format!("`{name}` is said by the gateway itself");
                section.mistake(at, why);
            } else if name.is_empty() || name.len() > 128 || value.len() > 1_024 {
                let why =
                    "an attribute has a name of 1 to 128 characters and a value of 1024 at most";
                section.mistake(at, why);
            }
            attributes.push((name.to_owned(), value));
        }
        Some(Self {
            collector: OtlpSettings::read(section, dir, insecure, TRACES)?,
            sampling: Sampling::new(ratio.unwrap_or(1_000_000), follow.unwrap_or(true)),
            attributes,
        })
    }
}

/// A share of one as millionths, read from its digits: there is nothing to round.
fn ratio(value: &DeValue<'_>) -> Read<u32> {
    const FORM: &str = "must be a number from 0 to 1 with six decimals at most, such as 0.05";
    let text = match value {
        DeValue::Integer(whole) if whole.radix() == 10 => whole.as_str(),
        DeValue::Float(number) => number.as_str(),
        _ => return Err(FORM.to_owned()),
    };
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    if decimals.len() > 6 || !digits(whole) || !digits(decimals) {
        return Err(FORM.to_owned());
    }
    let millionths = format!("{whole}{decimals:0<6}").parse::<u32>();
    let millionths = millionths.ok().filter(|ratio| *ratio <= 1_000_000);
    millionths.ok_or_else(|| FORM.to_owned())
}

impl fmt::Display for TracesSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n[traces]\n{}", self.collector)?;
        let millionths = self.sampling.per_million();
        let (whole, decimals) = (millionths / 1_000_000, millionths % 1_000_000);
        writeln!(f, "sample_ratio = {whole}.{decimals:06}")?;
        writeln!(f, "follow_parent = {}", self.sampling.follows_parent())?;
        if !self.attributes.is_empty() {
            writeln!(f, "\n[traces.attributes]")?;
        }
        for (name, value) in &self.attributes {
            writeln!(f, "{} = {}", escaped(name), escaped(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::settings;

    #[test]
    fn where_spans_go_reads_back_as_it_prints() {
        let text = "[traces]\nendpoint = \"https://collector\"\nprotocol = \"http\"\nsample_ratio = 0.05\nfollow_parent = false\n[traces.attributes]\n\"service.name\" = \"edge \\\"x\\\"\"\n";
        let once = settings(text, &[]).expect("settings");
        let traces = once.traces.as_ref().expect("a collector");
        assert_eq!(traces.collector.endpoint(), "https://collector/v1/traces");
        assert_eq!(traces.sampling.per_million(), 50_000);
        assert_eq!(settings(&once.to_string(), &[]).as_ref(), Ok(&once));
        assert_eq!(once.to_json()["traces"]["follow_parent"], false);
        let usual = "[traces]\nendpoint = \"https://collector:4317\"\nprotocol = \"grpc\"\n";
        let usual = settings(usual, &[]).expect("settings").traces;
        let usual = usual.expect("a collector").sampling;
        assert_eq!(
            (usual.per_million(), usual.follows_parent()),
            (1_000_000, true)
        );
    }

    #[test]
    fn every_mistake_about_traces_is_told_at_once() {
        let text = "[traces]\nendpoint = \"http://collector:4317\"\nprotocol = \"grpc\"\nsample_ratio = 1.5\nfollow_parent = 1\nsample = 2\n[traces.attributes]\n\"tenant.id\" = \"acme\"\n\"x\" = 1\n";
        let told = settings(text, &[]).expect_err("mistakes");
        for expected in [
            "2:12: what is sent could be read on the way: give an https:// URL, or set `plain_http_otlp = true` in [insecure]",
            "4:16: `sample_ratio` must be a number from 0 to 1",
            "5:17: `follow_parent` must be true or false",
            "6:1: [traces] has no key `sample`",
            "8:1: `tenant.id` is said by the gateway itself",
            "9:7: `attributes.x` must be a text",
        ] {
            assert!(told.contains(expected), "{expected}: {told}");
        }
        assert_eq!(told.lines().count(), 6, "{told}");
        for ratio in [
            "-0.1",
            "1e-3",
            "0.1234567",
            "\"0.5\"",
            "nan",
            "0x1",
            "1.000001",
        ] {
            let text = format!(
                "[traces]\nendpoint = \"https://c\"\nprotocol = \"grpc\"\nsample_ratio = {ratio}\n"
            );
            let told = settings(&text, &[]).expect_err(ratio);
            assert!(
                told.contains("4:16: `sample_ratio` must be"),
                "{ratio}: {told}"
            );
        }
    }
}
