//! What tests of the spool stand on: a relay with a spool that can be killed and started again in its
//! place, and clients that do not give up until their write is acknowledged.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::{Client, until, within, write};
use crate::relay::{Refused, Relay};
use crate::store::{Store, own_address};

/// A folder of this test's own, removed with it.
pub(crate) struct Folder {
    path: PathBuf,
    is_mounted: bool,
}

impl Folder {
    /// An empty one.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("relay-it-spool-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _left_behind = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self {
            path,
            is_mounted: false,
        }
    }

    /// One on a disk of its own, of this size; `None` where that is not allowed.
    pub(crate) fn on_disk_of(size: &str) -> Option<Self> {
        let mut folder = Self::new();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        folder.is_mounted = mount
            .arg(&folder.path)
            .status()
            .is_ok_and(|end| end.success());
        if !folder.is_mounted {
            eprintln!("skipped: a file system of its own cannot be mounted here");
            return None;
        }
        Some(folder)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The files below it whose name ends so, in order.
    pub(crate) fn files(&self, end: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path if path.to_string_lossy().ends_with(end) => found.push(path),
                    _ => {}
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_mounted {
            let _gone = Command::new("umount").arg(&self.path).status();
        }
        let _gone = std::fs::remove_dir_all(&self.path);
    }
}

/// A relay with a spool, in one place.
pub(crate) struct Site {
    relay: Option<Relay>, // ended before its folder goes
    /// Its spool.
    pub(crate) folder: Folder,
    /// Where it takes writes, also after a new start.
    pub(crate) http: String,
    outputs: Vec<(String, String)>,
    env: Vec<(String, String)>,
}

impl Site {
    /// A relay in front of these stores, with more variables.
    pub(crate) fn new(outputs: &[(&str, &Store)], env: &[(&str, &str)]) -> Self {
        Self::at(Folder::new(), addresses(outputs), env)
    }

    /// A relay with its spool there, in front of backends at these addresses, with more variables.
    pub(crate) fn at(folder: Folder, outputs: Vec<(String, String)>, env: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut site = Self {
            relay: None,
            folder,
            http: own_address(),
            outputs,
            env: env.iter().map(own).collect(),
        };
        site.start();
        site
    }

    /// Other outputs, from the next start on.
    pub(crate) fn outputs(&mut self, outputs: &[(&str, &Store)]) {
        self.outputs = addresses(outputs);
    }

    /// A variable, from the next start on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(own, _)| own != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it.
    pub(crate) fn start(&mut self) {
        self.try_start()
            .unwrap_or_else(|refused| panic!("the relay did not come up:\n{}", refused.said));
    }

    /// Starts it, if it comes up.
    pub(crate) fn try_start(&mut self) -> Result<(), Refused> {
        assert!(self.relay.is_none(), "it runs");
        let dir = self.folder.path().to_str().unwrap();
        let mut env = vec![
            ("RELAY_SPOOL_DIR", dir),
            ("RELAY_HTTP_BIND_ADDR", &self.http),
        ];
        env.extend(
            self.env
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let outputs = self.outputs.iter();
        let outputs: Vec<_> = outputs
            .map(|(name, address)| (name.as_str(), address.as_str()))
            .collect();
        let relay = Relay::try_start(&outputs, &env)?;
        self.http.clone_from(&relay.http);
        self.relay = Some(relay);
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.relay.take().unwrap().kill();
    }

    /// SIGTERM; it exits 0.
    pub(crate) fn term(&mut self) {
        let relay = self.relay.take().unwrap();
        relay.term();
        assert_eq!(relay.wait().code(), Some(0));
    }

    /// SIGTERM; it may cut what takes too long.
    pub(crate) fn end(&mut self) {
        let relay = self.relay.take().unwrap();
        relay.term();
        assert!(relay.wait().code().is_some(), "no signal ended it");
    }

    /// SIGHUP; returns once the reload has ended.
    pub(crate) fn reload(&self) {
        self.relay.as_ref().unwrap().reload();
    }

    /// What it has logged since its start.
    pub(crate) fn said(&self) -> String {
        self.relay.as_ref().unwrap().said()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        self.relay.as_ref().unwrap().pid()
    }

    /// A number of its `/metrics`, since its start.
    pub(crate) fn metric(&self, row: &str) -> u64 {
        self.relay.as_ref().unwrap().metric(row)
    }

    /// Waits until it has logged these words so many times since its start.
    pub(crate) fn says(&self, words: &str, times: usize) {
        until(words, || self.said().matches(words).count() >= times);
    }

    /// Waits until the last it has logged of this backend's debt is that there is none any more. Only
    /// where it was owed something since the start.
    pub(crate) fn level(&self, backend: &str) {
        let label = format!("backend={backend:?}");
        until(&format!("{backend} is level"), || {
            let said = self.said();
            let last = said.lines().rfind(|line| {
                line.trim_end().ends_with(&label)
                    && (line.contains("backend is owed") || line.contains("backend is level"))
            });
            last.is_some_and(|line| line.contains("backend is level"))
        });
    }

    /// One write that is acknowledged at once.
    pub(crate) fn write(&self, body: &str) {
        let answer = write(&self.http, "/write?db=x", body);
        assert_eq!(answer.status, 204, "{body}: {answer:?}");
    }
}

/// Names and addresses of stores.
pub(crate) fn addresses(outputs: &[(&str, &Store)]) -> Vec<(String, String)> {
    let pair = |(name, store): &(&str, &Store)| ((*name).to_owned(), store.address.clone());
    outputs.iter().map(pair).collect()
}

/// What a client wrote, all of it acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Points, and the last value of each.
    pub(crate) points: BTreeMap<String, String>,
    /// The longest wait for an answer.
    pub(crate) slowest: Duration,
    /// Writes.
    pub(crate) count: usize,
}

/// Clients that write without a pause, until they are told to stop.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Written>>,
}

/// Points that each client overwrites, in turn,
const KEYS: usize = 5;
/// for so many writes; others follow, so that what was wrong once is not put right by what comes later.
const KEPT: usize = 40;

impl Writers {
    /// So many clients, each with a connection and points of its own.
    pub(crate) fn start(http: &str, clients: usize) -> Self {
        let (stop, count) = (Arc::default(), Arc::default());
        let threads = (0..clients).map(|client| {
            let (http, stop, count) = (http.to_owned(), Arc::clone(&stop), Arc::clone(&count));
            thread::spawn(move || write_until(&http, client, &stop, &count))
        });
        Self {
            threads: threads.collect(),
            stop,
            count,
        }
    }

    /// Writes that are acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until so many more are.
    pub(crate) fn go_on(&self, more: usize) {
        let until_then = self.count() + more;
        within(Duration::from_secs(20), "writes are acknowledged", || {
            self.count() >= until_then
        });
    }

    /// Ends them; what they wrote, all together.
    pub(crate) fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for thread in self.threads {
            let one = thread.join().unwrap();
            all.points.extend(one.points);
            all.count += one.count;
            all.slowest = all.slowest.max(one.slowest);
        }
        all
    }
}

fn write_until(http: &str, client: usize, stop: &AtomicBool, count: &AtomicUsize) -> Written {
    let mut written = Written::default();
    let mut connection = None;
    for value in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{}.{}", value / KEPT, value % KEYS);
        let body = format!("k,c={client},k={key} v={value}i 1\nu,c={client} v={value}i {value}\n");
        insist(http, &mut connection, &body, &mut written.slowest);
        let value_now = format!("v={value}i");
        written
            .points
            .insert(format!("k,c={client},k={key} 1"), value_now.clone());
        written
            .points
            .insert(format!("u,c={client} {value}"), value_now);
        written.count += 1;
        count.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_micros(500)); // the machine is for the relay
    }
    written
}

/// Writes until it is acknowledged.
fn insist(http: &str, connection: &mut Option<Client>, body: &str, slowest: &mut Duration) {
    let end = Instant::now() + Duration::from_secs(30);
    let length = body.len();
    let request =
        format!("POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: {length}\r\n\r\n{body}");
    while Instant::now() < end {
        let client = connection
            .take()
            .or_else(|| TcpStream::connect(http).ok().map(Client::over));
        if let Some(mut client) = client {
            let begun = Instant::now();
            let answer = client.send(request.as_bytes()).answer();
            if let Some(answer) = answer {
                *slowest = (*slowest).max(begun.elapsed());
                if answer.header("connection") != Some("close") {
                    *connection = Some(client);
                }
                if matches!(answer.status, 202 | 204) {
                    return;
                }
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("never acknowledged: {body}");
}

/// Both have everything that was acknowledged, each point its last value, and nothing older comes
/// behind what is newer.
pub(crate) fn all_have(stores: &[&Store], site: &Site, written: &Written) {
    let last = "last v=1i 1";
    until("the last write is acknowledged", || {
        matches!(write(&site.http, "/write?db=x", last).status, 202 | 204)
    });
    for (place, store) in stores.iter().enumerate() {
        within(
            Duration::from_secs(20),
            &format!("backend {place} has the last write"),
            || store.value("last 1").is_some(),
        );
    }
    let mut expected = written.points.clone();
    expected.insert("last 1".to_owned(), "v=1i".to_owned());
    let differs = |store: &Store| {
        let points = store.points();
        let wrong = expected
            .iter()
            .filter(|(point, value)| points.get(*point) != Some(*value));
        wrong
            .map(|(point, value)| format!("{point}: {value}, not {:?}", points.get(point)))
            .take(5)
            .collect::<Vec<_>>()
    };
    for (place, store) in stores.iter().enumerate() {
        // A send that is live may still be under way on another connection.
        let end = Instant::now() + Duration::from_secs(1);
        while !differs(store).is_empty() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        let wrong = differs(store);
        assert!(wrong.is_empty(), "backend {place} lacks: {wrong:#?}");
        assert_eq!(store.count(), expected.len(), "backend {place} has more");
    }
}
