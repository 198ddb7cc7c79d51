//! The two exposition formats: Prometheus text 0.0.4, and `OpenMetrics` 1.0 for clients that accept it.
//!
//! Written here because the crate prometheus-client writes `OpenMetrics` only, and older scrapers and the textfile
//! collector need the text format, in which counters have other names.

use std::fmt::{Display, Write};

/// Exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// Negotiates by the values of `Accept` (RFC 9110 section 12.5.1): `OpenMetrics` if it is listed and plain text is
    /// not preferred.
    pub fn of<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut open, mut plain) = (0.0_f32, 0.0_f32);
        for range in accept.into_iter().flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut known) = (1.0_f32, true);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "version" => known = matches!(value.trim(), "1.0.0" | "0.0.1" | "0.0.4"),
                    _ => {}
                }
            }
            match name.as_str() {
                "application/openmetrics-text" if known => open = open.max(quality),
                "text/plain" if known => plain = plain.max(quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// Returns the media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Writer of the text.
pub(super) struct Text {
    format: Format,
    text: String,
}

/// Metric family whose samples are being written.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    suffix: &'static str,
}

impl Text {
    pub(super) fn new(format: Format) -> Self {
        Text { format, text: String::with_capacity(16 << 10) }
    }

    /// Starts a family of counters; `name` is without `_total`.
    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, Kind::Counter, help)
    }

    /// Starts a family of gauges.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, Kind::Gauge, help)
    }

    /// Starts a family of histograms.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, Kind::Histogram, help)
    }

    fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let (word, suffix) = match kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
            Kind::Histogram => ("histogram", ""),
        };
        // Only Prometheus gives a family of counters the suffix of its samples.
        let shown = if self.format == Format::Prometheus { suffix } else { "" };
        self.text += &format!("# HELP {name}{shown} {help}\n# TYPE {name}{shown} {word}\n");
        Family { text: &mut self.text, name, suffix }
    }

    /// Returns the complete text.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text += "# EOF\n";
        }
        self.text
    }
}

impl Family<'_> {
    /// Adds the only sample of a family.
    pub(super) fn value(&mut self, value: impl Display) {
        self.sample(&[], value);
    }

    /// Adds a sample. Values of labels are from fixed sets and need no escaping.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.sample_with_suffix(self.suffix, labels, value);
    }

    /// Adds a sample of a histogram, such as `_sum`.
    pub(super) fn sample_with_suffix(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_preference_selects_the_format() {
        for (accept, format) in [
            (&[][..], Format::Prometheus),
            (&["*/*"], Format::Prometheus),
            (&["text/html,*/*;q=0.8"], Format::Prometheus),
            (&["application/openmetrics-text"], Format::OpenMetrics),
            // The header of Prometheus 2.42.
            (
                &[
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ],
                Format::OpenMetrics,
            ),
            (&["application/openmetrics-text;q=0.2, text/plain;q=0.5"], Format::Prometheus),
            (&["text/plain", "application/openmetrics-text"], Format::OpenMetrics),
            (&["application/openmetrics-text;version=9"], Format::Prometheus),
            (&["application/openmetrics-text; q=0"], Format::Prometheus),
            (&["application/openmetrics-text;q=x"], Format::Prometheus),
        ] {
            assert_eq!(Format::of(accept.iter().copied()), format, "{accept:?}");
        }
    }
}
