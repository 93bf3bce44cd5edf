//! Asking a backend whether it is there: now and then while writes do not show it, and with back-off
//! while it is down.
//!
//! Each shard asks for itself: what it learns is its own, and needs no lock.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::answer::{AnswerReader, Reply};
use crate::backend::backoff::Backoff;
use crate::backend::errand::answer;
use crate::backend::exchange::connect;
use crate::backend::own_trouble::lacks;
use crate::backend::pool::Backend;
use crate::backend::request::push_probe;
use crate::engine::timer;
use crate::limits;
use crate::plan::BackendKind;

/// What a probe heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The status.
    pub status: u16,
    /// From the connect to the answer.
    pub took: Duration,
}

/// Asks for the backend's ping endpoint, on a connection of its own.
///
/// # Errors
/// What went wrong, in words.
pub async fn ask(backend: &Backend, wait: Duration) -> Result<Heard, String> {
    match try_ask(backend, wait).await {
        Ok(heard) => Ok(heard),
        Err(Unheard::Own(why) | Unheard::Its(why)) => Err(why),
    }
}

/// Why nothing was heard, in words.
enum Unheard {
    /// This machine has nothing left to connect with.
    Own(String),
    /// It is the backend's.
    Its(String),
}

async fn try_ask(backend: &Backend, wait: Duration) -> Result<Heard, Unheard> {
    let driver = &backend.around.driver;
    let begun = driver.now();
    let due = begun.after(wait);
    let stream = connect(backend, due).await.map_err(|error| {
        let words = format!("cannot connect: {error}");
        match lacks(&error) {
            Some(lack) => {
                backend.own_trouble_begins(&error, lack);
                Unheard::Own(words)
            }
            None => Unheard::Its(words),
        }
    })?;
    stream.set_deadline(due);
    let mut request = Vec::new();
    push_probe(&mut request, &backend.plan);
    stream
        .send_all(&request)
        .await
        .map_err(|error| Unheard::Its(format!("cannot send: {error}")))?;
    let (mut reader, mut reply) = (AnswerReader::default(), Reply::default());
    answer(&stream, &mut reader, &mut reply)
        .await
        .map_err(|failure| {
            let complaint = stream.complaint();
            Unheard::Its(complaint.unwrap_or_else(|| failure.words().to_owned()))
        })?;
    if let Some(version) = version_of(&reply.headers) {
        let known = backend.shared.version.load();
        if known.as_deref().map(String::as_str) != Some(version) {
            backend
                .shared
                .version
                .store(Some(Arc::new(version.to_owned())));
        }
    }
    Ok(Heard {
        status: reply.status,
        took: driver.now().since(begun),
    })
}

/// Asks once, unless somebody else does: its health hears what came of it.
pub(super) async fn once(backend: &Rc<Backend>) {
    let Some(_running) = backend.probes.begin() else {
        return;
    };
    let before = backend.answers();
    match try_ask(backend, backend.around.tuning.probe_timeout).await {
        // A relay says by 503 that it can take nothing, or is about to end.
        Ok(heard) if heard.status >= 500 && backend.plan.kind == BackendKind::Relay => {
            backend.probe_failed(before, "it is not ready");
        }
        Ok(_) => {
            backend.probes.was_answered(backend.around.driver.now());
            backend.answered(); // if it is not well, its answers to writes decide
        }
        Err(Unheard::Own(_)) => {} // it says nothing of the backend
        Err(Unheard::Its(why)) => backend.probe_failed(before, &why),
    }
}

/// Keeps the backend's health up to date, for ever. One task per shard and backend.
pub async fn run(backend: Rc<Backend>, seed: u64) {
    let tuning = backend.around.tuning;
    let mut backoff = Backoff::new(limits::PROBE_BACKOFF_MIN, limits::PROBE_BACKOFF_MAX, seed);
    let mut seen = 0;
    let mut first = true;
    loop {
        let is_due = first || !backend.is_up() || backend.answers() == seen;
        if is_due || backend.has_own_trouble.get() {
            once(&backend).await;
        }
        first = false;
        seen = backend.answers();
        if backend.is_up() {
            backoff.reset();
            timer::sleep(tuning.probe_interval).await;
        } else {
            timer::sleep(backoff.wait()).await;
        }
    }
}

/// The value of `X-Influxdb-Version` in header lines, if it is one that may be shown.
fn version_of(headers: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(headers).ok()?;
    let value = text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-influxdb-version")
            .then(|| value.trim())
    })?;
    let plain = value.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && !value.is_empty() && value.len() <= limits::VERSION_BYTES_MAX).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn a_version_is_taken_only_if_it_can_be_shown() {
        assert_eq!(
            version_of(b"Content-Type: a\r\nx-influxdb-VERSION: 1.6.7~rc0\r\n"),
            Some("1.6.7~rc0")
        );
        assert_eq!(version_of(b"X-Influxdb-Version: \r\n"), None);
        assert_eq!(version_of(b"X-Influxdb-Version: a b\r\n"), None);
        assert_eq!(version_of(b"X-Other: 1\r\n"), None);
        let long = format!("X-Influxdb-Version: {}\r\n", "9".repeat(500));
        assert_eq!(version_of(long.as_bytes()), None);
    }
}
