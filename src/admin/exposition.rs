//! Prometheus' text format: what stands above a metric's rows, the rows, and what is escaped in them. Pure.

use std::fmt::{Display, Write};

use crate::metrics::{BUCKETS_US, CODES, Histogram};

/// A page that is being written. Once per scrape.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// The words above the rows of one metric; `kind` is `counter`, `gauge`, `histogram` or `summary`.
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One row; `labels` without their braces, and empty if there are none.
    pub fn row(&mut self, name: &str, labels: &str, value: impl Display) {
        let _infallible = match labels {
            "" => writeln!(self.text, "{name} {value}"),
            _ => writeln!(self.text, "{name}{{{labels}}} {value}"),
        };
    }

    /// One row by `code`, if there is anything to count.
    pub fn nonzero(&mut self, name: &str, label: &str, code: &str, count: u64) {
        if count > 0 {
            self.row(name, &format!("{label},code=\"{code}\""), count);
        }
    }

    /// The rows of one histogram, summed over these.
    pub fn histogram(&mut self, name: &str, labels: &str, shards: &[&Histogram]) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for b in 0..=BUCKETS_US.len() {
            count += shards
                .iter()
                .map(|shard| shard.buckets[b].get())
                .sum::<u64>();
            let bound = BUCKETS_US
                .get(b)
                .map_or_else(|| "+Inf".to_owned(), |&us| seconds(us * 1000));
            self.row(
                &format!("{name}_bucket"),
                &format!("{labels}{comma}le=\"{bound}\""),
                count,
            );
        }
        let sum_ns = shards.iter().map(|shard| shard.sum_ns.get()).sum();
        self.row(&format!("{name}_sum"), labels, seconds(sum_ns));
        self.row(&format!("{name}_count"), labels, count);
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// The label that names a backend.
pub fn backend(name: &str) -> String {
    label("backend", name)
}

/// A label and its value.
pub fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", escape(value))
}

/// The label of a row of statuses.
pub fn code(row: usize) -> String {
    CODES
        .get(row)
        .map_or_else(|| "other".to_owned(), u16::to_string)
}

/// Nanoseconds as seconds, exactly, without trailing zeros.
pub fn seconds(ns: u64) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A label's value, as the format wants it.
fn escape(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::{Page, backend, code, escape, seconds};
    use crate::metrics::{Histogram, code_row};
    use std::time::Duration;

    #[test]
    fn seconds_are_exact_and_labels_are_escaped() {
        assert_eq!(seconds(100_000), "0.0001");
        assert_eq!(seconds(2_500_000_000), "2.5");
        assert_eq!(seconds(10_000_000_000), "10");
        assert_eq!(seconds(0), "0");
        assert_eq!(escape("a\"b\\c\n"), "a\\\"b\\\\c\\n");
        assert_eq!(backend("a\"b"), "backend=\"a\\\"b\"");
    }

    #[test]
    fn a_status_without_a_row_is_other() {
        assert_eq!(code(code_row(204)), "204");
        assert_eq!(code(code_row(0)), "other", "the backend died");
    }

    #[test]
    fn rows_with_and_without_labels() {
        let (mut page, histogram) = (Page::default(), Histogram::default());
        histogram.observe(Duration::from_secs(2));
        page.head("m", "gauge", "Help.");
        page.row("m", "", 1);
        page.row("m", "a=\"b\"", "0.5");
        page.nonzero("m", "a=\"b\"", "400", 0);
        page.histogram("h", "", &[&histogram]);
        let text = page.into_text();
        assert!(
            text.starts_with("# HELP m Help.\n# TYPE m gauge\nm 1\nm{a=\"b\"} 0.5\nh_bucket{le="),
            "{text}"
        );
        assert!(text.ends_with("h_sum 2\nh_count 1\n"), "{text}");
    }
}
