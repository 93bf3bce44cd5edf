//! What `bench` has seen, in numbers, in words and as JSON. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Why a request had no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// No connection could be made.
    Connect,
    /// The connection was closed before the answer.
    Reset,
    /// The answer took too long.
    Timeout,
    /// The answer was no HTTP, or came unasked.
    Answer,
}

/// Counts and latencies of one run. Times are nanoseconds.
pub(super) struct Tally {
    /// Requests that were begun.
    pub(super) sent: u64,
    /// Requests answered with 2xx.
    pub(super) acknowledged: u64,
    /// Requests that were due in time, but found no free connection before the end.
    pub(super) unsent: u64,
    /// Bytes of the acknowledged requests.
    pub(super) bytes: u64,
    losses: [u64; 4],
    statuses: BTreeMap<u16, u64>,
    latency: Histogram<u64>,
}

/// What was asked for, and how long it took.
pub(super) struct Frame {
    /// Where to.
    pub(super) targets: Vec<String>,
    /// Connections with load.
    pub(super) connections: usize,
    /// Connections, idle ones included, that stood at the end.
    pub(super) connections_up: usize,
    /// Lines of each request.
    pub(super) lines: usize,
    /// Requests a second, where they were due at fixed times.
    pub(super) rate: Option<f64>,
    /// What the arrivals were rolled with.
    pub(super) seed: Option<u64>,
    /// What was measured, in seconds.
    pub(super) seconds: f64,
}

impl Tally {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        let hour = 3_600_000_000_000;
        Self {
            sent: 0,
            acknowledged: 0,
            unsent: 0,
            bytes: 0,
            losses: [0; 4],
            statuses: BTreeMap::new(),
            latency: Histogram::new_with_bounds(1_000, hour, 3).expect("the bounds are in order"),
        }
    }

    /// One request was answered. Only what was acknowledged has a latency.
    pub(super) fn answered(&mut self, status: u16, latency: u64, bytes: usize) {
        if (200..300).contains(&status) {
            self.acknowledged += 1;
            self.bytes += bytes as u64;
            self.latency.saturating_record(latency);
        } else {
            *self.statuses.entry(status).or_default() += 1;
        }
    }

    /// One request had no answer, or a connection could not be made.
    pub(super) fn lost(&mut self, why: Loss) {
        self.losses[why as usize] += 1;
    }

    /// One request was due and never sent: it has waited at least this long.
    pub(super) fn unsent(&mut self, waited: u64) {
        self.unsent += 1;
        self.latency.saturating_record(waited);
    }

    /// One JSON object. Latencies are microseconds.
    pub(super) fn to_json(&self, frame: &Frame) -> Value {
        let rates = Rates::of(self, frame);
        let [connect, reset, timeout, answer] = self.losses;
        let statuses: serde_json::Map<_, _> = self
            .statuses
            .iter()
            .map(|(status, count)| (status.to_string(), json!(count)))
            .collect();
        json!({
            "targets": frame.targets,
            "connections": frame.connections,
            "connections_up": frame.connections_up,
            "lines": frame.lines,
            "rate": frame.rate,
            "seed": frame.seed,
            "seconds": frame.seconds,
            "sent": self.sent,
            "acknowledged": self.acknowledged,
            "unsent": self.unsent,
            "requests_per_second": rates.requests,
            "points_per_second": rates.points,
            "bytes_per_second": rates.bytes,
            "latency_us": latency_json(&self.latency),
            "errors": {
                "connect": connect, "reset": reset, "timeout": timeout, "answer": answer,
                "status": statuses,
            },
        })
    }

    /// A few lines for people.
    pub(super) fn to_text(&self, frame: &Frame) -> String {
        let rates = Rates::of(self, frame);
        let mut text = String::new();
        let mut say = |label: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{label:<14}{value}");
        };
        say("targets", frame.targets.join(" "));
        let pace = match (frame.rate, frame.seed) {
            (None, _) => "each connection sends when it has been answered".to_owned(),
            (Some(rate), None) => format!("{rate} requests/s, evenly spaced"),
            (Some(rate), Some(seed)) => format!("{rate} requests/s, Poisson, --seed {seed}"),
        };
        say(
            "load",
            format!(
                "{} connections × {} lines; {pace}",
                frame.connections, frame.lines
            ),
        );
        say("measured", format!("{:.2} s", frame.seconds));
        say(
            "sent",
            format!("{}, acknowledged {}", self.sent, self.acknowledged),
        );
        if self.unsent > 0 {
            say(
                "unsent",
                format!("{}: due, but no connection was free", self.unsent),
            );
        }
        let mega = rates.bytes / 1e6;
        say(
            "per second",
            format!(
                "{:.0} requests, {:.0} points, {mega:.2} MB",
                rates.requests, rates.points
            ),
        );
        say("latency µs", latency_text(&self.latency));
        say("errors", self.errors());
        text
    }

    /// What went wrong, by kind, or `none`.
    fn errors(&self) -> String {
        let names = ["connect", "reset", "timeout", "answer"]
            .map(str::to_owned)
            .into_iter();
        let mut errors: Vec<_> = names
            .zip(self.losses)
            .filter(|(_, count)| *count > 0)
            .collect();
        errors.extend(
            self.statuses
                .iter()
                .map(|(status, count)| (format!("status {status}"), *count)),
        );
        let errors: Vec<_> = errors
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if errors.is_empty() {
            return "none".to_owned();
        }
        errors.join(", ")
    }
}

/// Per second.
struct Rates {
    requests: f64,
    points: f64,
    bytes: f64,
}

impl Rates {
    fn of(tally: &Tally, frame: &Frame) -> Self {
        let seconds = frame.seconds.max(1e-9);
        let rate = |count: u64| (count as f64 / seconds * 10.0).round() / 10.0;
        let points = tally.acknowledged * frame.lines as u64;
        Self {
            requests: rate(tally.acknowledged),
            points: rate(points),
            bytes: rate(tally.bytes),
        }
    }
}

/// Nanoseconds as microseconds, by name.
pub(super) fn latency_json(latency: &Histogram<u64>) -> Value {
    let mut json = json!({
        "mean": (latency.mean() / 10.0).round() / 100.0,
        "max": thousandth(latency.max()),
    });
    for (name, percentile) in PERCENTILES {
        json[name] = json!(thousandth(latency.value_at_percentile(percentile)));
    }
    json
}

/// The same for people.
pub(super) fn latency_text(latency: &Histogram<u64>) -> String {
    let mut text = String::new();
    for (name, percentile) in PERCENTILES {
        let micros = thousandth(latency.value_at_percentile(percentile));
        // Writing to a String cannot fail.
        let _ = write!(text, "{name} {micros:.0} ");
    }
    text + &format!("max {:.0}", thousandth(latency.max()))
}

/// Nanoseconds as microseconds.
fn thousandth(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

const PERCENTILES: [(&str, f64); 5] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
];

#[cfg(test)]
mod tests {
    use super::{Frame, Loss, Tally};

    fn run() -> (Tally, Frame) {
        let mut tally = Tally::new();
        tally.sent = 1003;
        (1..=1000).for_each(|n| tally.answered(204, n * 1000, 100));
        tally.answered(503, 1, 100);
        tally.lost(Loss::Reset);
        tally.unsent(5_000_000);
        let targets = vec!["http://a".to_owned()];
        let frame = Frame {
            targets,
            connections: 8,
            connections_up: 8,
            lines: 10,
            rate: Some(500.0),
            seed: Some(7),
            seconds: 2.0,
        };
        (tally, frame)
    }

    #[test]
    fn json_has_rates_latencies_and_errors_by_kind() {
        let (tally, frame) = run();
        let json = tally.to_json(&frame);
        assert_eq!(json["requests_per_second"], 500.0);
        assert_eq!(json["points_per_second"], 5000.0);
        assert_eq!(json["bytes_per_second"], 50_000.0);
        assert_eq!(
            (&json["errors"]["reset"], &json["errors"]["status"]["503"]),
            (&1.into(), &1.into())
        );
        let p50 = json["latency_us"]["p50"].as_f64().unwrap();
        assert!((499.0..=503.0).contains(&p50), "{p50}");
        assert!(
            json["latency_us"]["max"].as_f64().unwrap() >= 5000.0,
            "what was never sent has waited"
        );
    }

    #[test]
    fn words_name_what_went_wrong() {
        let (tally, frame) = run();
        let text = tally.to_text(&frame);
        for part in [
            "sent          1003, acknowledged 1000",
            "reset 1, status 503 1",
            "--seed 7",
            "p99.99",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
