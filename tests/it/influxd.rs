//! The relay before two real `influxd`: what is written is read back the same from both, what is
//! refused is refused in their words, and one of them may die.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Answer, ask, until, write};
use crate::relay::Relay;
use crate::store::own_address;

/// A server.
pub(crate) struct Influxd {
    child: Child,
    /// Where it is.
    pub(crate) address: String,
    rpc: String,
    folder: PathBuf,
}

impl Influxd {
    /// A server of its own, in a folder of its own; `None` where none is installed.
    pub(crate) fn start(name: &str) -> Option<Self> {
        Self::begin(name, None)
    }

    /// The same, and where it takes datagrams, into the database `x`.
    pub(crate) fn with_udp(name: &str) -> Option<(Self, String)> {
        let udp = own_address();
        Some((Self::begin(name, Some(&udp))?, udp))
    }

    /// A server there that speaks TLS with this identity. It has no database yet.
    pub(crate) fn with_tls(name: &str, address: &str, combined: &str) -> Option<Self> {
        let folder = folder(name);
        let rpc = own_address();
        let (child, address, rpc) = Self::run(&folder, address, &rpc, None, Some(combined))?;
        Some(Self {
            child,
            address,
            rpc,
            folder,
        })
    }

    fn begin(name: &str, udp: Option<&str>) -> Option<Self> {
        let folder = folder(name);
        let own = (own_address(), own_address());
        let (child, address, rpc) = Self::run(&folder, &own.0, &own.1, udp, None)?;
        let server = Self {
            child,
            address,
            rpc,
            folder,
        };
        server.wait();
        assert_eq!(server.query("CREATE DATABASE x").status, 200);
        Some(server)
    }

    fn run(
        folder: &Path,
        address: &str,
        rpc: &str,
        udp: Option<&str>,
        combined: Option<&str>,
    ) -> Option<(Child, String, String)> {
        let mut command = Command::new("influxd");
        if let Some(udp) = udp {
            command
                .env("INFLUXDB_UDP_0_ENABLED", "true")
                .env("INFLUXDB_UDP_0_BIND_ADDRESS", udp)
                .env("INFLUXDB_UDP_0_DATABASE", "x");
        }
        if let Some(combined) = combined {
            command
                .env("INFLUXDB_HTTP_HTTPS_ENABLED", "true")
                .env("INFLUXDB_HTTP_HTTPS_CERTIFICATE", combined);
        }
        let child = command
            .args(["run", "-config", "/dev/null"])
            .env("INFLUXDB_REPORTING_DISABLED", "true")
            .env("INFLUXDB_MONITOR_STORE_ENABLED", "false")
            .env("INFLUXDB_BIND_ADDRESS", rpc)
            .env("INFLUXDB_HTTP_BIND_ADDRESS", address)
            .env("INFLUXDB_META_DIR", folder.join("meta"))
            .env("INFLUXDB_DATA_DIR", folder.join("data"))
            .env("INFLUXDB_DATA_WAL_DIR", folder.join("wal"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some((child, address.to_owned(), rpc.to_owned())),
            Err(_) => {
                eprintln!("skipped: no influxd is installed");
                None
            }
        }
    }

    fn wait(&self) {
        until("influxd answers", || {
            std::net::TcpStream::connect(&self.address).is_ok()
        });
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, with its data, in its place.
    pub(crate) fn restart(&mut self) {
        self.child = Self::run(&self.folder, &self.address, &self.rpc, None, None)
            .unwrap()
            .0;
        self.wait();
    }

    /// Asks its database `x`; times are nanoseconds.
    pub(crate) fn query(&self, q: &str) -> Answer {
        let q = q.replace(' ', "+").replace('"', "%22").replace('/', "%2F");
        ask(
            &self.address,
            "POST",
            &format!("/query?db=x&epoch=ns&q={q}"),
            "",
            b"",
        )
    }
}

fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("relay-it-{}-{name}", std::process::id()))
}

impl Drop for Influxd {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}

fn three(test: &str) -> Option<(Influxd, Influxd, Relay)> {
    let (a, b) = (
        Influxd::start(&format!("{test}-a"))?,
        Influxd::start(&format!("{test}-b"))?,
    );
    let relay = Relay::start(&[("a", &a.address), ("b", &b.address)], &[]);
    Some((a, b, relay))
}

fn same(a: &Influxd, b: &Influxd, what: &str) -> String {
    let query = "SELECT * FROM /.*/";
    until(what, || a.query(query).body == b.query(query).body);
    a.query(query).body
}

#[test]
fn points_with_and_without_times_are_the_same_on_both() {
    let Some((a, b, relay)) = three("times") else {
        return;
    };
    let body = "m\\ 1,t=a\\,b v=1,s=\"one\ntwo \\\" three\"\n# c\n\nm\\ 1,t=b w=2i,ok=true  \n";
    for (n, unit) in ["", "n", "ns", "u", "us", "%C2%B5", "ms", "s", "m", "h"]
        .into_iter()
        .enumerate()
    {
        let target = if unit.is_empty() {
            "/write?db=x".to_owned()
        } else {
            format!("/write?db=x&precision={unit}")
        };
        let body = body.replace("t=", &format!("n={n},t="));
        assert_eq!(write(&relay.http, &target, &body).status, 204, "{unit}");
        assert_eq!(
            write(&relay.http, &target, &format!("given,n={n} v={n} 7")).status,
            204,
            "{unit}"
        );
    }
    let all = same(&a, &b, "both databases are the same");
    assert_eq!(all.matches("one\\ntwo").count(), 10, "{all}");
    let given = a.query("SELECT v FROM given WHERE n='7'").body;
    assert!(
        given.contains("[7000000000,7]"),
        "7 s, as it was given: {given}"
    );
    let micro = a.query("SELECT v FROM given WHERE n='4'").body;
    assert!(micro.contains("[7000,4]"), "us is microseconds: {micro}");
    let hour = a.query("SELECT * FROM /^m/ WHERE n='9'").body;
    assert!(
        hour.contains("00000000000,"),
        "stamped in whole hours: {hour}"
    );
}

#[test]
fn answers_and_headers_are_those_of_a_direct_write() {
    let Some((a, _b, relay)) = three("words") else {
        return;
    };
    assert_eq!(write(&relay.http, "/write?db=x", "typed v=1 1").status, 204);
    let own = ["date", "request-id", "x-request-id"];
    for (target, body) in [
        ("/write?db=x", "good v=1 1"),
        ("/write?db=x", ""),
        ("/write?db=x", "# only a comment"),
        ("/write?db=x", "bad"),
        ("/write?db=x", "m v=1 1\nbad\nm v=2 2"),
        ("/write?db=x", "typed v=\"a string\" 2"),
        ("/write?db=x", "m v=1 notatime"),
        ("/write?db=x", "m v=\"open 1"),
        ("/write?db=nosuch", "m v=1 1"),
        ("/write?db=x&rp=nosuch", "m v=1 1"),
        ("/write", "m v=1 1"),
    ] {
        let (direct, relayed) = (
            write(&a.address, target, body),
            write(&relay.http, target, body),
        );
        let but_own = |answer: &Answer| {
            let keep = |header: &&(String, String)| !own.contains(&header.0.as_str());
            answer
                .headers
                .iter()
                .filter(keep)
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (relayed.status, &relayed.body),
            (direct.status, &direct.body),
            "{target} {body}"
        );
        if target != "/write" {
            assert_eq!(but_own(&relayed), but_own(&direct), "{target} {body}");
        }
    }
}

#[test]
fn one_dies_under_load_and_comes_back() {
    let Some((mut a, b, relay)) = three("killed") else {
        return;
    };
    let ready = || ask(&relay.http, "GET", "/ready/a", "", b"").status;
    let one = |n: usize| {
        let begun = Instant::now();
        assert_eq!(
            write(&relay.http, "/write?db=x", &format!("m v={n}i {n}")).status,
            204,
            "write {n}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "write {n} took {:?}",
            begun.elapsed()
        );
    };
    (1..=100).for_each(one);
    a.kill();
    (101..=200).for_each(one);
    until("its death is seen", || ready() == 503);
    a.restart();
    until("its return is seen", || ready() == 200);
    (201..=300).for_each(one);
    let count = |server: &Influxd| server.query("SELECT count(v) FROM m").body;
    until("b has all", || count(&b).contains(",300]"));
    until("a has all but the outage", || count(&a).contains(",200]"));
}

#[test]
fn a_relayed_body_is_judged_like_a_direct_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/lp/lp_cases.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no recorded bodies at {}", path.display());
        return;
    };
    let Some((a, b, relay)) = three("judged") else {
        return;
    };
    let mut walked = 0;
    for row in text.lines().step_by(5) {
        let case: serde_json::Value = serde_json::from_str(row).unwrap();
        let Some(body) = case["in"].as_str() else {
            continue;
        };
        if case["poison"].as_bool() == Some(true) || case.get("poison").is_some() {
            continue;
        }
        let database = format!("d{walked}");
        for (server, name) in [
            (&a, format!("{database}r")),
            (&a, format!("{database}d")),
            (&b, format!("{database}r")),
        ] {
            assert_eq!(server.query(&format!("CREATE DATABASE {name}")).status, 200);
        }
        let relayed = write(&relay.http, &format!("/write?db={database}r"), body);
        let direct = write(&a.address, &format!("/write?db={database}d"), body);
        assert_eq!(
            relayed.status, direct.status,
            "{}: {body:?}: {relayed:?}",
            case["id"]
        );
        walked += 1;
        if walked == 100 {
            break;
        }
    }
    assert!(walked > 50);
}
