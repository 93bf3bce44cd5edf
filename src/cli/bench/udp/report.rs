//! What `bench` has seen of datagrams, in words and as JSON. Pure.

use std::fmt::Write;

use serde_json::{Value, json};

use super::tally::{Heard, REFUSALS, Sent, Volume};
use crate::cli::bench::report::{latency_json, latency_text};

/// What was asked for, and how long it took.
pub(super) struct Frame {
    /// Where to.
    pub(super) targets: Vec<String>,
    /// Lines of each datagram.
    pub(super) lines: usize,
    /// Bytes of each line.
    pub(super) line_bytes: usize,
    /// Datagrams a second, where they were due at fixed times.
    pub(super) rate: Option<f64>,
    /// What the arrivals were rolled with.
    pub(super) seed: Option<u64>,
    /// What was measured, in seconds.
    pub(super) seconds: f64,
}

/// One receiver.
pub(super) struct Ear {
    /// Where it listened.
    pub(super) address: String,
    /// From the first send, the warm-up's, to the last datagram that came.
    pub(super) seconds: f64,
    /// Lines that were sent and should have come here.
    pub(super) expected: u64,
    /// Datagrams that came and found its buffer full; `None` where the system does not say.
    pub(super) kernel_drops: Option<u64>,
    /// What came.
    pub(super) heard: Heard,
}

impl Ear {
    fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.heard.new)
    }
}

/// One JSON object. Latencies are microseconds.
pub(super) fn to_json(frame: &Frame, sent: &Sent, ears: &[Ear]) -> Value {
    let rates = Rates::of(&sent.measured, frame);
    let errors: serde_json::Map<_, _> = REFUSALS
        .iter()
        .zip(sent.refusals)
        .map(|(name, count)| ((*name).to_owned(), json!(count)))
        .collect();
    let receivers: Vec<_> = ears.iter().map(ear_json).collect();
    json!({
        "targets": frame.targets,
        "connections": sent.lines.len(),
        "lines": frame.lines,
        "line_bytes": frame.line_bytes,
        "rate": frame.rate,
        "seed": frame.seed,
        "seconds": frame.seconds,
        "sent": volume_json(&sent.all),
        "unsent": sent.unsent,
        "datagrams_per_second": rates.datagrams,
        "points_per_second": rates.points,
        "bytes_per_second": rates.bytes,
        "errors": errors,
        "receivers": receivers,
    })
}

fn ear_json(ear: &Ear) -> Value {
    let mut json = volume_json(&ear.heard.all);
    json["address"] = json!(ear.address);
    json["seconds"] = json!(ear.seconds);
    json["expected"] = json!(ear.expected);
    json["lost"] = json!(ear.lost());
    json["duplicated"] = json!(ear.heard.duplicated);
    json["damaged"] = json!(ear.heard.damaged);
    json["out_of_order"] = json!(ear.heard.out_of_order);
    json["kernel_drops"] = json!(ear.kernel_drops);
    json["latency_us"] = latency_json(&ear.heard.latency);
    json
}

fn volume_json(volume: &Volume) -> Value {
    json!({"datagrams": volume.datagrams, "points": volume.points, "bytes": volume.bytes})
}

/// A few lines for people.
pub(super) fn to_text(frame: &Frame, sent: &Sent, ears: &[Ear]) -> String {
    let rates = Rates::of(&sent.measured, frame);
    let mut text = String::new();
    let mut say = |label: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{label:<14}{value}");
    };
    say("targets", frame.targets.join(" "));
    let pace = match (frame.rate, frame.seed) {
        (None, _) => "each socket sends as soon as it takes more".to_owned(),
        (Some(rate), None) => format!("{rate} datagrams/s, evenly spaced"),
        (Some(rate), Some(seed)) => format!("{rate} datagrams/s, Poisson, --seed {seed}"),
    };
    let (sockets, lines, bytes) = (sent.lines.len(), frame.lines, frame.line_bytes);
    say(
        "load",
        format!("{sockets} sockets × {lines} lines of {bytes} bytes; {pace}"),
    );
    say("measured", format!("{:.2} s", frame.seconds));
    say("sent", volume_text(&sent.all));
    if sent.unsent > 0 {
        say(
            "unsent",
            format!(
                "{}: due, but the sender or its socket was too slow",
                sent.unsent
            ),
        );
    }
    say(
        "per second",
        format!(
            "{:.0} datagrams, {:.0} points, {:.2} MB",
            rates.datagrams,
            rates.points,
            rates.bytes / 1e6
        ),
    );
    say("errors", errors_text(sent));
    for ear in ears {
        say("receiver", ear.address.clone());
        say("  received", volume_text(&ear.heard.all));
        say("  wrong", wrong_text(ear));
        say("  latency µs", latency_text(&ear.heard.latency));
    }
    text
}

fn volume_text(volume: &Volume) -> String {
    let mega = volume.bytes as f64 / 1e6;
    format!(
        "{} datagrams, {} points, {mega:.2} MB",
        volume.datagrams, volume.points
    )
}

/// What did not come as it was sent.
fn wrong_text(ear: &Ear) -> String {
    let drops = ear
        .kernel_drops
        .map_or_else(|| "unknown".to_owned(), |drops| drops.to_string());
    format!(
        "lost {}, duplicated {}, damaged {}, out of order {}; datagrams dropped here by the kernel {drops}",
        ear.lost(),
        ear.heard.duplicated,
        ear.heard.damaged,
        ear.heard.out_of_order,
    )
}

/// What sockets did not take, by kind, or `none`.
fn errors_text(sent: &Sent) -> String {
    let errors: Vec<_> = REFUSALS
        .iter()
        .zip(sent.refusals)
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if errors.is_empty() {
        return "none".to_owned();
    }
    errors.join(", ")
}

/// Per second.
struct Rates {
    datagrams: f64,
    points: f64,
    bytes: f64,
}

impl Rates {
    fn of(volume: &Volume, frame: &Frame) -> Self {
        let seconds = frame.seconds.max(1e-9);
        let rate = |count: u64| (count as f64 / seconds * 10.0).round() / 10.0;
        Self {
            datagrams: rate(volume.datagrams),
            points: rate(volume.points),
            bytes: rate(volume.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Shape;
    use super::super::tally::{Heard, Refusal, Sent, Volume};
    use super::{Ear, Frame, to_json, to_text};

    fn run() -> (Frame, Sent, Vec<Ear>) {
        let mut sent = Sent::new(2);
        for (socket, measured) in [(0, false), (1, true)] {
            let volume = Volume {
                datagrams: 100,
                points: 1000,
                bytes: 96_000,
            };
            sent.add(socket, volume, measured);
        }
        sent.refusals[Refusal::Unreachable as usize] = 3;
        sent.unsent = 5;
        let shape = Shape::new(0, true, None);
        let mut heard = Heard::new(&shape, 2);
        heard.datagram(b"other 1\nother 2\n", 0, &sent.lines, 0);
        let ears = vec![Ear {
            address: "127.0.0.1:1".to_owned(),
            seconds: 2.5,
            expected: 2000,
            kernel_drops: Some(7),
            heard,
        }];
        let frame = Frame {
            targets: vec!["udp://a:1".to_owned()],
            lines: 10,
            line_bytes: 96,
            rate: Some(50.0),
            seed: None,
            seconds: 2.0,
        };
        (frame, sent, ears)
    }

    #[test]
    fn json_has_what_was_sent_and_each_receiver() {
        let (frame, sent, ears) = run();
        let json = to_json(&frame, &sent, &ears);
        assert_eq!(json["sent"]["points"], 2000, "the warm-up is counted");
        assert_eq!(json["points_per_second"], 500.0, "and not measured");
        assert_eq!(json["errors"]["unreachable"], 3);
        assert_eq!(json["unsent"], 5);
        let ear = &json["receivers"][0];
        for (key, value) in [
            ("datagrams", 1),
            ("points", 2),
            ("bytes", 16),
            ("expected", 2000),
            ("lost", 2000),
            ("duplicated", 0),
            ("damaged", 2),
            ("out_of_order", 0),
            ("kernel_drops", 7),
        ] {
            assert_eq!(ear[key], value, "{key}");
        }
        assert_eq!(ear["seconds"], 2.5);
        assert!(ear["latency_us"]["p99.99"].is_number());
    }

    #[test]
    fn words_say_the_same() {
        let (frame, sent, ears) = run();
        let text = to_text(&frame, &sent, &ears);
        for part in [
            "2 sockets × 10 lines of 96 bytes; 50 datagrams/s",
            "sent          200 datagrams, 2000 points, 0.19 MB",
            "unsent        5: due",
            "errors        unreachable 3",
            "lost 2000, duplicated 0, damaged 2, out of order 0; datagrams dropped here by the kernel 7",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
