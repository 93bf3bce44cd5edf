//! What the operator sees: the picture, redrawn in its place on a terminal; elsewhere a line now and then.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::Cast;
use super::crowd::Numbers;
use super::talk::Talk;
use crate::cli::poll::{self, Nanos};

/// The picture.
pub(super) struct Stage {
    begun: Nanos,
    is_terminal: bool,
    backends: &'static str,
    /// Lines of the picture that stand on the terminal.
    drawn: usize,
    next_line: Nanos,
}

impl Stage {
    /// Nothing drawn yet.
    pub(super) fn new(is_real: bool) -> Self {
        Self {
            begun: poll::now(),
            is_terminal: std::io::stdout().is_terminal(),
            backends: if is_real { "influxd" } else { "sink" },
            drawn: 0,
            next_line: poll::now(),
        }
    }

    fn seconds(&self) -> f64 {
        Duration::from_nanos(poll::now() - self.begun).as_secs_f64()
    }

    /// Says what happens now.
    pub(super) fn say(&mut self, words: &str) {
        let text = format!("{:6.1} s  {words}\n", self.seconds());
        self.put(&text, "");
        self.next_line = poll::now();
    }

    /// Shows how things stand.
    pub(super) fn show(&mut self, cast: &mut Cast, numbers: Arc<Numbers>) {
        if !self.is_terminal && poll::now() < self.next_line {
            return;
        }
        self.next_line = poll::now() + poll::span(LINE_EVERY);
        let count = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        let is = |there: bool| if there { "up" } else { "DOWN" };
        let relays: Vec<String> = cast
            .relays
            .iter_mut()
            .enumerate()
            .map(|(n, relay)| {
                let there = relay.actor.is_there();
                let [one, two] = if there { owed(&relay.admin) } else { [0, 0] };
                format!(
                    "relay {} {:<4} owes backend 1 {one:>8} B, backend 2 {two:>8} B",
                    n + 1,
                    is(there)
                )
            })
            .collect();
        let backends: Vec<String> = cast
            .backends
            .iter_mut()
            .enumerate()
            .map(|(n, backend)| {
                format!(
                    "backend {} ({}) {}",
                    n + 1,
                    self.backends,
                    is(backend.actor.is_there())
                )
            })
            .collect();
        let crowd = format!(
            "sent {} acknowledged {} failed writes {}; queries answered {} failed {}",
            count(&numbers.sent),
            count(&numbers.acknowledged),
            count(&numbers.failed),
            count(&numbers.read),
            count(&numbers.unread)
        );
        if self.is_terminal {
            let picture = format!(
                "\n  {crowd}\n     └▶ balancer ─┬▶ {}\n                 └▶ {}\n                      ╰▶ {}, {}\n",
                relays[0], relays[1], backends[0], backends[1]
            );
            self.put("", &picture);
        } else if count(&numbers.sent) > 0 {
            let line = format!(
                "{:6.1} s  {crowd}; {}; {}; {}; {}\n",
                self.seconds(),
                relays[0],
                relays[1],
                backends[0],
                backends[1]
            );
            self.put(&line, "");
        }
    }

    /// Takes the picture away, says `text`, and draws the next picture below it.
    fn put(&mut self, text: &str, picture: &str) {
        let mut out = std::io::stdout().lock();
        if self.drawn > 0 {
            let _gone = write!(out, "\x1b[{}F\x1b[J", self.drawn);
        }
        self.drawn = picture.lines().count();
        let _gone = write!(out, "{text}{picture}");
        let _gone = out.flush();
    }
}

/// What a relay owes each backend.
fn owed(admin: &str) -> [u64; 2] {
    let answer = Talk::to(admin).ask("GET", "/status", "", "");
    let page = answer
        .ok()
        .and_then(|answer| serde_json::from_str::<Value>(&answer.body).ok());
    [1, 2].map(|n| {
        let rows = page.as_ref().and_then(|page| page.get("status"));
        let row = rows.and_then(|rows| rows.get(format!("backend-{n}")));
        row.and_then(|row| row.get("owedBytes")?.as_u64())
            .unwrap_or(0)
    })
}

const LINE_EVERY: Duration = Duration::from_secs(1);
