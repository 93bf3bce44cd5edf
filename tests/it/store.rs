//! A backend that keeps what it is sent, as InfluxDB does: the last value of each point. It can go away
//! and come back in the same place, and be told to refuse, to die or to hang.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flate2::read::MultiGzDecoder;

use crate::backend::{Seen, request};
use crate::client::until;

/// What it does with a write.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    /// Takes it: 204. Lines that are none are refused, the others of the body taken, as InfluxDB does.
    Take,
    /// Answers so: a status, header lines, a body. It keeps nothing.
    Say(u16, &'static str, &'static str),
    /// Takes the lines that do not hold this word, and answers so, as InfluxDB does.
    TakePart(&'static str, u16, &'static str, &'static str),
    /// Closes the connection.
    Close,
}

type Rule = dyn Fn(&Seen) -> Does + Send + Sync;

/// A backend.
pub(crate) struct Store {
    /// Where it is, even while it is away.
    pub(crate) address: String,
    shelf: Arc<Shelf>,
    run: Option<Run>,
}

struct Shelf {
    kept: Mutex<Kept>,
    rule: Mutex<Arc<Rule>>,
    hanging: Mutex<bool>,
    hang_ends: Condvar,
    pings: AtomicUsize,
    away_ms: AtomicU64,
}

#[derive(Default)]
struct Kept {
    points: BTreeMap<String, String>,
    taken: Vec<Vec<u8>>,
    seen: Vec<Seen>,
}

/// One time of being there.
struct Run {
    here: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    accepting: JoinHandle<()>,
}

/// An address that stays this test's own while nobody listens there: a host of the loopback network that
/// nobody else uses, and a port that the kernel gives to nobody, for all hosts, by itself.
pub(crate) fn own_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(number < 508, "a host for each");
    let (half, next) = (number / 254, number % 254 + 1);
    let host = format!("127.{}.{low}.{next}", 64 + u16::from(high % 64) + 64 * half);
    let first = 10_000 + u16::from(low) * 40 + next;
    let mut ports = first..32_000;
    let port = ports.find(|port| TcpListener::bind((host.as_str(), *port)).is_ok());
    format!("{host}:{}", port.unwrap())
}

impl Store {
    /// A backend that takes everything.
    pub(crate) fn new() -> Self {
        let mut store = Self::away();
        store.start();
        store
    }

    /// A backend that has a place and is not there yet.
    pub(crate) fn away() -> Self {
        let shelf = Arc::new(Shelf {
            kept: Mutex::default(),
            rule: Mutex::new(Arc::new(|_: &Seen| Does::Take)),
            hanging: Mutex::new(false),
            hang_ends: Condvar::new(),
            pings: AtomicUsize::new(0),
            away_ms: AtomicU64::new(0),
        });
        Self {
            address: own_address(),
            shelf,
            run: None,
        }
    }

    /// From now on it does this with every write and query; pings are answered in any case.
    pub(crate) fn rule(&self, rule: impl Fn(&Seen) -> Does + Send + Sync + 'static) {
        *self.shelf.rule.lock().unwrap() = Arc::new(rule);
    }

    /// It comes, in its old place.
    pub(crate) fn start(&mut self) {
        assert!(self.run.is_none(), "it is there");
        // A process that is started elsewhere holds for a moment what was just closed here.
        let mut listener = None;
        until("its place is free", || {
            listener = TcpListener::bind(&self.address).ok();
            listener.is_some()
        });
        let listener = listener.unwrap();
        let here = Arc::new(AtomicBool::new(true));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let (is_here, open, shelf) = (
            Arc::clone(&here),
            Arc::clone(&streams),
            Arc::clone(&self.shelf),
        );
        let accepting = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if !is_here.load(Ordering::SeqCst) {
                    return;
                }
                open.lock().unwrap().push(stream.try_clone().unwrap());
                let (shelf, is_here) = (Arc::clone(&shelf), Arc::clone(&is_here));
                thread::spawn(move || shelf.serve(stream, &is_here));
            }
        });
        self.run = Some(Run {
            here,
            streams,
            accepting,
        });
    }

    /// It goes, in the middle of what it does. What it has not kept now it will not keep.
    pub(crate) fn stop(&mut self) {
        let Some(run) = self.run.take() else { return };
        {
            let _nothing_is_kept_now = self.shelf.kept.lock().unwrap();
            run.here.store(false, Ordering::SeqCst);
        }
        let _wakes_it = TcpStream::connect(&self.address);
        run.accepting.join().unwrap();
        for stream in run.streams.lock().unwrap().drain(..) {
            let _gone_already = stream.shutdown(Shutdown::Both);
        }
        self.hang(false);
    }

    /// It takes connections and requests and does nothing, pings included; or does what has waited.
    pub(crate) fn hang(&self, hanging: bool) {
        *self.shelf.hanging.lock().unwrap() = hanging;
        self.shelf.hang_ends.notify_all();
    }

    /// It is so far away: each of its answers takes so long.
    pub(crate) fn is_away(&self, span: Duration) {
        let ms = u64::try_from(span.as_millis()).unwrap();
        self.shelf.away_ms.store(ms, Ordering::SeqCst);
    }

    /// How often it was asked whether it is there.
    pub(crate) fn pings(&self) -> usize {
        self.shelf.pings.load(Ordering::SeqCst)
    }

    /// Its points: series and time, and the last value.
    pub(crate) fn points(&self) -> BTreeMap<String, String> {
        self.shelf.kept.lock().unwrap().points.clone()
    }

    /// How many points it has.
    pub(crate) fn count(&self) -> usize {
        self.shelf.kept.lock().unwrap().points.len()
    }

    /// The value of one point.
    pub(crate) fn value(&self, point: &str) -> Option<String> {
        self.shelf.kept.lock().unwrap().points.get(point).cloned()
    }

    /// The bodies that it took, in order, as they came.
    pub(crate) fn taken(&self) -> Vec<Vec<u8>> {
        self.shelf.kept.lock().unwrap().taken.clone()
    }

    /// The lines of the bodies that it took, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = |body: &Vec<u8>| String::from_utf8(body.clone()).unwrap();
        let bodies = self.taken();
        let lines = bodies.iter().map(text);
        lines
            .flat_map(|body| body.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    /// Every write that it was sent.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shelf.kept.lock().unwrap().seen.clone()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shelf {
    fn serve(&self, mut stream: TcpStream, here: &AtomicBool) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let seen = request(&mut reader)?;
            let is_ping = seen.head.starts_with("GET") && !seen.head.contains(" /query");
            self.pings.fetch_add(usize::from(is_ping), Ordering::SeqCst);
            thread::sleep(Duration::from_millis(self.away_ms.load(Ordering::SeqCst)));
            let has_waited = self.wait_while_hanging();
            if is_ping {
                stream
                    .write_all(b"HTTP/1.1 204 No Content\r\nX-Influxdb-Version: 1.test\r\n\r\n")
                    .ok()?;
                continue;
            }
            if has_waited {
                thread::sleep(Duration::from_millis(100)); // it works off what has piled up
            }
            let rule = Arc::clone(&self.rule.lock().unwrap());
            let does = {
                let mut kept = self.kept.lock().unwrap();
                if !here.load(Ordering::SeqCst) {
                    return None;
                }
                kept.seen.push(seen.clone());
                match rule(&seen) {
                    Does::Take => kept.take(&seen),
                    Does::TakePart(word, status, headers, body) => {
                        kept.take_part(&seen, word);
                        Does::Say(status, headers, body)
                    }
                    other => other,
                }
            };
            match does {
                Does::Take => stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?,
                Does::Say(status, headers, body) => {
                    let length = body.len();
                    let head = format!("HTTP/1.1 {status} S\r\n{headers}Content-Length: {length}");
                    stream
                        .write_all(format!("{head}\r\n\r\n{body}").as_bytes())
                        .ok()?;
                }
                Does::TakePart(..) | Does::Close => {
                    return stream.shutdown(Shutdown::Both).ok();
                }
            }
        }
    }

    /// Whether there was anything to wait for.
    fn wait_while_hanging(&self) -> bool {
        let hanging = self.hanging.lock().unwrap();
        let is_hanging = *hanging;
        let waited = self.hang_ends.wait_timeout_while(
            hanging,
            Duration::from_secs(60), // a test that failed lets its threads go
            |hanging| *hanging,
        );
        drop(waited);
        is_hanging
    }
}

impl Kept {
    fn take_part(&mut self, seen: &Seen, word: &str) {
        let Some(text) = text_of(seen) else { return };
        for line in lines_of(&text).filter(|line| !line.contains(word)) {
            if let Some((point, fields)) = point_of(line) {
                self.points.insert(point, fields);
            }
        }
    }

    fn take(&mut self, seen: &Seen) -> Does {
        self.taken.push(seen.body.clone());
        if !seen.head.starts_with("POST /write") {
            return Does::Take;
        }
        let Some(text) = text_of(seen) else {
            return Does::Say(400, "", "{\"error\":\"bad gzip, or not UTF-8\"}");
        };
        let mut answer = Does::Take;
        for line in lines_of(&text) {
            match point_of(line) {
                Some((point, fields)) => drop(self.points.insert(point, fields)),
                None => answer = Does::Say(400, "", "{\"error\":\"unable to parse\"}"),
            }
        }
        answer
    }
}

/// The body of a write, inflated.
fn text_of(seen: &Seen) -> Option<String> {
    let head = seen.head.to_ascii_lowercase();
    let mut body = seen.body.clone();
    if head.contains("content-encoding: gzip") {
        body.clear();
        let mut decoder = MultiGzDecoder::new(&seen.body[..]);
        decoder.read_to_end(&mut body).ok()?;
    }
    String::from_utf8(body).ok()
}

/// Lines; a newline within a string ends none.
fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let lines = text.split(move |char| {
        quoted ^= char == '"';
        char == '\n' && !quoted
    });
    lines.filter(|line| !line.is_empty())
}

/// A point's series with its time, and its fields. Tests write the time always.
fn point_of(line: &str) -> Option<(String, String)> {
    let (series, rest) = line.split_once(' ')?;
    let (fields, time) = rest.rsplit_once(' ')?;
    let is_point = fields.contains('=') && time.parse::<i64>().is_ok();
    is_point.then(|| (format!("{series} {time}"), fields.to_owned()))
}
