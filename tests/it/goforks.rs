//! The Go relays' files and flags: each loads unchanged, and each key does what it did there.
//!
//! The files in `tests/goforks` are written by the keys that the two document; only their ports are
//! replaced here. The table has a row for each key of both.

use std::collections::BTreeSet;
use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::backend::{Act, Backend, request, status};
use crate::client::{Answer, Client, ask, until, within, write};
use crate::datagrams::{Receiver, sender};
use crate::filters::remote_write;
use crate::relay::Relay;
use crate::spool_site::Folder;
use crate::store::{Store, own_address};
use crate::tls_bench::{Authority, Identity, Secure, put};

const ORIGINAL: &str = include_str!("../goforks/original.toml");
const BUFFERED: &str = include_str!("../goforks/original_buffered.toml");
const KAPACITOR: &str = include_str!("../goforks/original_kapacitor.toml");
const VEEPEE: &str = include_str!("../goforks/veepee.toml");

/// A relay with a file of a Go relay, whose ports stand for these addresses.
fn of_file(text: &str, ports: &[(&str, &str)]) -> Relay {
    let text = ["127.0.0.1:9096", "0.0.0.0:9096"]
        .iter()
        .fold(text.to_owned(), |text, bind| {
            text.replace(bind, "127.0.0.1:0")
        });
    let text = ports.iter().fold(text, |text, (port, address)| {
        let port = format!("127.0.0.1:{port}");
        assert!(text.contains(&port), "{port} is in the file");
        text.replace(&port, address)
    });
    Relay::of_text(&text)
}

fn get(address: &str, path: &str) -> Answer {
    ask(address, "GET", path, "", b"")
}

fn json(address: &str, path: &str) -> Value {
    serde_json::from_str(&get(address, path).body).unwrap()
}

#[test]
fn the_original_file_relays_by_http_and_by_udp() {
    let (a, b) = (Backend::accepting(), Backend::accepting());
    let (u, v) = (Receiver::new(), Receiver::new());
    let relay = of_file(
        ORIGINAL,
        &[
            ("8086", &a.address),
            ("7086", &b.address),
            ("8089", &u.address),
            ("7089", &v.address),
        ],
    );
    let answer = write(&relay.http, "/write?db=x", "m v=1 1\n");
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    let socket = sender(&relay.udp[0]);
    socket.send(b"m,host=a v=2 2\n").unwrap();
    for (backend, receiver) in [(&a, &u), (&b, &v)] {
        until("each has it", || !backend.seen().is_empty());
        let seen = &backend.seen()[0];
        assert!(
            seen.head.starts_with("POST /write?db=x HTTP/1.1\r\n"),
            "{}",
            seen.head
        );
        assert_eq!(seen.body, b"m v=1 1\n");
        assert_eq!(receiver.wait_for(1), ["m,host=a v=2 2"]);
    }
    let answer = get(&relay.http, "/ping");
    assert_eq!(answer.status, 204);
    assert!(
        answer
            .header("x-influxdb-version")
            .is_some_and(|version| version.contains("relay"))
    );
    let all = json(&relay.admin, "/status");
    assert_eq!(all["udp"]["local1"]["mtu"], 512, "{all}");
    assert_eq!(all["udp"]["local2"]["sentDatagrams"], 1, "{all}");
    assert_eq!(json(&relay.http, "/status")["udp"], Value::Null);
}

#[test]
fn the_buffered_file_sends_again_what_one_missed() {
    let (a, mut b) = (Store::new(), Store::away());
    let relay = of_file(BUFFERED, &[("8086", &a.address), ("7086", &b.address)]);
    for n in 0..50 {
        let answer = write(&relay.http, "/write?db=x", &format!("m,n={n} v={n}i {n}"));
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    let row = |relay: &Relay| json(&relay.http, "/status")["status"]["local2"].clone();
    until("it is owed all", || row(&relay)["buffering"] == 1);
    assert_eq!(row(&relay)["maxSize"], 100 << 20);
    assert!(row(&relay)["size"].as_u64() > Some(500));
    b.start();
    until("it has all", || b.count() == 50);
    assert_eq!(a.points(), b.points());
    until("and it says so", || row(&relay)["buffering"] == 0);
    assert_eq!(row(&relay)["size"], 0);
}

#[test]
fn the_kapacitor_file_names_the_retention_policy() {
    let all = [
        Backend::accepting(),
        Backend::accepting(),
        Backend::accepting(),
    ];
    let relay = of_file(
        KAPACITOR,
        &[
            ("8086", &all[0].address),
            ("7086", &all[1].address),
            ("9092", &all[2].address),
        ],
    );
    assert_eq!(write(&relay.http, "/write?db=x&rp=", "m v=1 1").status, 204);
    for backend in &all {
        until("each has it", || !backend.seen().is_empty());
        let head = &backend.seen()[0].head;
        assert!(
            head.starts_with("POST /write?db=x&rp=autogen HTTP/1.1\r\n"),
            "{head}"
        );
    }
}

#[test]
fn the_veepee_file_has_its_endpoints_ping_and_health() {
    let (a, b) = (Backend::accepting(), Backend::accepting());
    let relay = of_file(VEEPEE, &[("8086", &a.address), ("7086", &b.address)]);
    let line = "cpu,host=a,region=b v=1 1";
    assert_eq!(write(&relay.http, "/write?db=x", line).status, 204);
    let headers = "Content-Encoding: snappy\r\n";
    let body = remote_write(&[("cpu_seconds", "host")]); // one output reads it: it has a filter
    let answer = ask(
        &relay.http,
        "POST",
        "/api/v1/prom/write?db=x",
        headers,
        &body,
    );
    assert_eq!(answer.status, 204);
    for (backend, prefix) in [(&a, ""), (&b, "/tenant")] {
        until("each has both", || backend.seen().len() == 2);
        let heads: BTreeSet<String> = backend
            .seen()
            .iter()
            .map(|seen| seen.head.lines().next().unwrap().to_owned())
            .collect();
        let want = ["/api/v1/prom/write?db=x", "/write?db=x"];
        let want = want.map(|path| format!("POST {prefix}{path} HTTP/1.1"));
        assert_eq!(heads, BTreeSet::from(want));
    }
    assert_eq!(get(&relay.http, "/ping").status, 200);
    let health = json(&relay.http, "/health");
    assert_eq!(health["status"], "healthy", "{health}");
    for name in ["local-influxdb01", "local-influxdb02"] {
        let said = health["healthy"][name].as_str().unwrap();
        assert!(said.starts_with("OK. Time taken "), "{said}");
    }
    let status = json(&relay.http, "/status");
    let row = &status["status"]["local-influxdb01"];
    assert_eq!(
        row["location"],
        format!("http://{}/", a.address),
        "{status}"
    );
}

/// The shapes of `/health`, by how many backends answer their pings.
#[test]
fn health_and_status_have_the_forks_shapes() {
    for (up, down, word) in [
        (2, 0, "healthy"),
        (1, 1, "problem"),
        (0, 2, "critical"),
        (0, 0, "critical"),
    ] {
        let backends: Vec<Backend> = (0..up).map(|_| Backend::accepting()).collect();
        let mut addresses: Vec<String> = backends.iter().map(|b| b.address.clone()).collect();
        addresses.extend((0..down).map(|_| Backend::nobody()));
        let outputs: Vec<String> = addresses
            .iter()
            .enumerate()
            .map(|(n, address)| format!("{{ name = \"o{n}\", location = \"http://{address}\" }}"))
            .collect();
        let relay = Relay::of_text(&format!(
            "[[http]]\nbind-addr = \"127.0.0.1:0\"\noutput = [{}]\n",
            outputs.join(", ")
        ));
        let answer = get(&relay.http, "/health");
        assert_eq!(answer.status, 200, "always");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let page: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(page["status"], word);
        for (key, count, begin) in [
            ("healthy", up, "OK. Time taken "),
            ("problem", down, "KO. "),
        ] {
            let map = page[key].as_object();
            assert_eq!(map.map_or(0, serde_json::Map::len), count, "{page}");
            assert_eq!(map.is_some(), count > 0, "an empty map is left out: {page}");
            let all = map.into_iter().flat_map(|map| map.values());
            assert!(
                all.into_iter()
                    .all(|said| said.as_str().unwrap().starts_with(begin))
            );
        }
        let head = ask(&relay.http, "HEAD", "/status", "", b"");
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        let status = json(&relay.http, "/status");
        let rows = status["status"].as_object().unwrap();
        assert_eq!(rows.len(), up + down);
        for row in rows.values() {
            assert!(
                row["location"].is_string() && row["buffering"] == 0,
                "{row}"
            );
            assert!(row["size"] == 0 && row["maxSize"] == 0, "{row}");
        }
    }
}

#[test]
fn an_ill_status_is_told_as_a_number() {
    let (address, _) = recorder("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
    let relay = with_http("", &address, "");
    let said = json(&relay.http, "/health")["problem"]["o"].to_string();
    assert!(said.contains("503"), "{said}");
}

/// A backend that answers everything so; the first lines and the heads that it was sent.
fn recorder(answer: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let record = Arc::clone(&heads);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let record = Arc::clone(&record);
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Some(seen) = request(&mut reader) {
                    record.lock().unwrap().push(seen.head);
                    let _gone = (&stream).write_all(answer.as_bytes());
                }
            });
        }
    });
    (address, heads)
}

/// A relay in front of one output called `o`, with more keys of `[[http]]` and of the output.
fn with_http(listener: &str, location: &str, output: &str) -> Relay {
    let bind = match listener.contains("bind-addr") {
        true => "",
        false => "bind-addr = \"127.0.0.1:0\"\n",
    };
    let name = match output.contains("name =") {
        true => "",
        false => "name = \"o\"\n",
    };
    Relay::of_text(&format!(
        "[[http]]\n{bind}{listener}\n[[http.output]]\n{name}location = \"http://{location}\"\n{output}\n"
    ))
}

/// A relay for datagrams with one output called `o`.
fn with_udp(listener: &str, location: &str, output: &str) -> Relay {
    let bind = match listener.contains("bind-addr") {
        true => "",
        false => "bind-addr = \"127.0.0.1:0\"\n",
    };
    Relay::of_text(&format!(
        "[[udp]]\n{bind}{listener}\n[[udp.output]]\nlocation = \"{location}\"\n{output}\n"
    ))
}

/// The first line of the only write that a backend has.
fn first_line(backend: &Backend) -> String {
    until("it has the write", || !backend.seen().is_empty());
    backend.seen()[0].head.lines().next().unwrap().to_owned()
}

fn name() {
    let relay = with_http("name = \"door\"", &Backend::accepting().address, "");
    assert!(relay.said().contains("listener=door"), "{}", relay.said());
}

fn bind_addr() {
    // All addresses, both families.
    let relay = with_http("bind-addr = \":0\"", &Backend::accepting().address, "");
    let port = relay.http.rsplit_once(':').unwrap().1;
    for host in ["127.0.0.1", "[::1]"] {
        assert_eq!(
            write(&format!("{host}:{port}"), "/write?db=x", "m v=1 1").status,
            204
        );
    }
}

fn default_retention_policy() {
    for (target, want) in [
        ("/write?db=x", "/write?db=x&rp=a%20b"),
        ("/write?db=x&rp=", "/write?db=x&rp=a%20b"),
        ("/write?rp=&db=x", "/write?rp=a%20b&db=x"),
        ("/write?db=x&rp=own", "/write?db=x&rp=own"),
        (
            "/api/v1/prom/write?db=x",
            "/api/v1/prom/write?db=x&rp=a%20b",
        ),
        (
            "/api/v1/prom/write?db=x&rp=own",
            "/api/v1/prom/write?db=x&rp=own",
        ),
        ("/api/v1/prom/write", "/api/v1/prom/write"),
    ] {
        let backend = Backend::accepting();
        let relay = with_http("default-retention-policy = \"a b\"", &backend.address, "");
        assert_eq!(write(&relay.http, target, "m v=1 1").status, 204);
        assert_eq!(first_line(&backend), format!("POST {want} HTTP/1.1"));
    }
    let backend = Backend::accepting();
    let relay = with_http("default-retention-policy = \"\"", &backend.address, "");
    write(&relay.http, "/write?db=x&rp=", "m v=1 1");
    assert_eq!(first_line(&backend), "POST /write?db=x&rp= HTTP/1.1");
}

fn default_ping_response() {
    for (value, want, length) in [
        ("0", 204, None),
        ("204", 204, None),
        ("200", 200, Some("0")),
        ("418", 418, Some("0")),
    ] {
        let key = format!("default-ping-response = {value}");
        let relay = with_http(&key, &Backend::accepting().address, "");
        for method in ["GET", "HEAD"] {
            let answer = ask(&relay.http, method, "/ping", "", b"");
            assert_eq!(
                (answer.status, answer.header("content-length")),
                (want, length)
            );
            assert!(
                answer
                    .header("x-influxdb-version")
                    .unwrap()
                    .ends_with("relay")
            );
        }
    }
}

fn health_timeout_ms() {
    // The kernel connects, and nobody speaks.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let relay = with_http("health-timeout-ms = 100", &address, "");
    let begun = Instant::now();
    let page = json(&relay.http, "/health");
    assert!(begun.elapsed() < Duration::from_secs(4), "5 s by default");
    assert!(
        page["problem"]["o"].as_str().unwrap().starts_with("KO. "),
        "{page}"
    );
}

fn output_name() {
    let backend = Backend::accepting();
    let relay = with_http("", &backend.address, "name = \"eins\"");
    assert!(json(&relay.http, "/status")["status"]["eins"].is_object());
    assert!(json(&relay.http, "/health")["healthy"]["eins"].is_string());
    // Two listeners may each have one of the name.
    let text = "[[http]]\nname = \"N\"\nbind-addr = \"127.0.0.1:0\"\noutput = [{ name = \"local1\", location = \"http://B\" }]\n";
    let text = text.replace('B', &backend.address);
    let relay =
        Relay::of_text(&(text.replace("\"N\"", "\"one\"") + &text.replace("\"N\"", "\"two\"")));
    for door in &relay.doors {
        assert!(json(door, "/status")["status"]["local1"].is_object());
        assert!(json(door, "/health")["healthy"]["local1"].is_string());
    }
    let all = json(&relay.admin, "/status");
    assert_eq!(all["status"].as_object().unwrap().len(), 2, "{all}");
}

fn output_location() {
    for (path, want) in [
        ("", "/write"),
        ("/", "/write"),
        ("/write", "/write"),
        ("/in/gest", "/in/gest"),
    ] {
        let backend = Backend::accepting();
        let relay = with_http("", &format!("{}{path}", backend.address), "");
        write(&relay.http, "/write?db=x", "m v=1 1");
        assert_eq!(first_line(&backend), format!("POST {want}?db=x HTTP/1.1"));
    }
    let backend = Backend::accepting();
    let relay = with_http("", &format!("user:pw@{}/write", backend.address), "");
    write(&relay.http, "/write?db=x", "m v=1 1");
    first_line(&backend);
    let head = backend.seen()[0].head.clone();
    assert!(
        head.contains("\r\nAuthorization: Basic dXNlcjpwdw==\r\n"),
        "{head}"
    );
}

fn output_endpoints() {
    let (address, heads) = recorder("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let output = "endpoints = {write=\"/w\", write_prom=\"/p\", ping=\"/i\", query=\"/q\"}";
    let relay = with_http("", &format!("{address}/pre/"), output);
    write(&relay.http, "/write?db=x", "m v=1 1");
    write(&relay.http, "/api/v1/prom/write?db=x", "opaque");
    get(&relay.http, "/health");
    get(&relay.http, "/query?q=SHOW+DATABASES");
    ask(&relay.admin, "POST", "/admin?q=x", "", b"");
    for want in [
        "POST /pre/w?db=x ",
        "POST /pre/p?db=x ",
        "GET /pre/i ",
        "GET /pre/q?q=SHOW+DATABASES ",
        "POST /pre/q?q=x ",
    ] {
        let has = || {
            heads
                .lock()
                .unwrap()
                .iter()
                .any(|head| head.starts_with(want))
        };
        until(want, has);
    }
}

fn output_timeout() {
    let hung = Backend::new(Duration::ZERO, Act::Hang);
    let relay = with_http("", &hung.address, "timeout = \"200ms\"");
    let begun = Instant::now();
    assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 503);
    assert!(begun.elapsed() < Duration::from_secs(5), "10 s by default");
}

/// A relay in front of one that takes all and one that is away, which has more keys.
fn with_one_away(keys: &str) -> (Relay, Store, Store) {
    let (well, away) = (Store::new(), Store::away());
    let relay = Relay::of_text(&format!(
        "[[http]]\nbind-addr = \"127.0.0.1:0\"\noutput = [{{ name = \"a\", location = \"http://{}\" }}, \
         {{ name = \"b\", location = \"http://{}\", {keys} }}]\n",
        well.address, away.address
    ));
    (relay, well, away)
}

fn buffer_size_mb() {
    let (relay, well, mut away) = with_one_away("buffer-size-mb = 1");
    for n in 0..20 {
        assert_eq!(
            write(&relay.http, "/write?db=x", &format!("m v={n}i {n}")).status,
            204
        );
    }
    let row = json(&relay.http, "/status")["status"]["b"].clone();
    assert_eq!(
        (&row["buffering"], &row["maxSize"]),
        (&1.into(), &(1 << 20).into())
    );
    away.start();
    until("it has all", || away.points() == well.points());
}

fn max_batch_kb() {
    let (relay, well, mut away) = with_one_away("buffer-size-mb = 1, max-batch-kb = 1");
    for n in 0..100 {
        let line = format!("m,pad={} v={n}i {n}", "x".repeat(100));
        assert_eq!(write(&relay.http, "/write?db=x", &line).status, 204);
    }
    away.start();
    until("it has all", || away.points() == well.points());
    let lengths: Vec<usize> = away.taken().iter().map(Vec::len).collect();
    assert!(lengths.iter().all(|&length| length <= 1024), "{lengths:?}");
    assert!(
        lengths.iter().any(|&length| length > 300),
        "joined: {lengths:?}"
    );
}

fn max_delay_interval() {
    let ill = Backend::new(Duration::ZERO, status(503, "", "ill"));
    let well = Backend::accepting();
    let keys = "buffer-size-mb = 1, max-delay-interval = \"500ms\"";
    let relay = Relay::of_text(&format!(
        "[[http]]\nbind-addr = \"127.0.0.1:0\"\noutput = [{{ name = \"a\", location = \"http://{}\" }}, \
         {{ name = \"b\", location = \"http://{}\", {keys} }}]\n",
        well.address, ill.address
    ));
    assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 204);
    // By default the tries come after 0, 0.5, 1.5, 3.5, 7.5 and 15.5 seconds, or somewhat sooner.
    within(
        Duration::from_secs(6),
        "it is tried again and again",
        || ill.seen().len() >= 8,
    );
}

fn udp_name() {
    let relay = with_udp("name = \"flood\"", &Receiver::new().address, "");
    assert!(relay.said().contains("flood"), "{}", relay.said());
}

fn udp_bind_addr() {
    let to = Receiver::new();
    let relay = with_udp("bind-addr = \"127.0.0.1:0\"", &to.address, "");
    sender(&relay.udp[0]).send(b"m v=1 1").unwrap();
    assert_eq!(to.wait_for(1), ["m v=1 1"]);
}

fn udp_precision() {
    for (unit, digits) in [
        ("", 19),
        ("n", 19),
        ("u", 16),
        ("ms", 13),
        ("s", 10),
        ("m", 8),
        ("h", 6),
    ] {
        let to = Receiver::new();
        let relay = with_udp(&format!("precision = \"{unit}\""), &to.address, "");
        sender(&relay.udp[0]).send(b"m v=1").unwrap();
        let line = to.wait_for(1).remove(0);
        let time = line.rsplit(' ').next().unwrap();
        assert_eq!(time.len(), digits, "{unit}: {line}");
    }
}

fn udp_read_buffer() {
    // The kernel doubles what it is asked for, and shows that; room for one datagram here is not for 200.
    let to = Receiver::new();
    let relay = with_udp("read-buffer = 4096", &to.address, "");
    relay.freeze();
    let socket = sender(&relay.udp[0]);
    let line = format!("m,pad={} v=1 1", "x".repeat(900));
    (0..200).for_each(|_| _ = socket.send(line.as_bytes()).unwrap());
    relay.go_on();
    until("the kernel dropped some", || {
        relay.metric("relay_udp_kernel_drops_total") > 50
    });
}

fn udp_output_name() {
    let relay = with_udp("", &Receiver::new().address, "name = \"eins\"");
    let all = json(&relay.admin, "/status");
    assert!(all["udp"]["eins"].is_object(), "{all}");
}

fn udp_output_location() {
    let to = Receiver::new();
    let port = to.address.rsplit_once(':').unwrap().1;
    let relay = with_udp("", &format!("localhost:{port}"), "");
    sender(&relay.udp[0]).send(b"m v=1 1").unwrap();
    assert_eq!(to.wait_for(1), ["m v=1 1"]);
}

fn udp_output_mtu() {
    for (mtu, most) in [("mtu = 64", 64), ("mtu = 0", 1024), ("", 1024)] {
        let to = Receiver::new();
        let relay = with_udp("", &to.address, mtu);
        let lines: Vec<String> = (0..200).map(|n| format!("m,n={n} v=1 {n}")).collect();
        sender(&relay.udp[0])
            .send(lines.join("\n").as_bytes())
            .unwrap();
        assert_eq!(to.wait_for(200), lines);
        let longest = to.datagrams().iter().map(Vec::len).max().unwrap();
        assert!(longest <= most && longest > most - 32, "{mtu}: {longest}");
    }
}

/// Requests per second of the whole listener; a bucket that is not named is one deep, and one that is off has
/// no depth either. `/ping` is not counted, as it is there.
fn rate_limit() {
    let backend = Backend::accepting();
    let statuses = |keys: &str| {
        let relay = with_http(keys, &backend.address, "");
        assert_eq!(get(&relay.http, "/ping").status, 204);
        let mut client = Client::new(&relay.http);
        [(); 3].map(|()| {
            let request =
                "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1";
            client.send(request.as_bytes()).answer().unwrap().status
        })
    };
    assert_eq!(statuses("rate-limit = 1"), [204, 429, 429]);
    assert_eq!(statuses("rate-limit = 0"), [204, 204, 204]);
    assert_eq!(statuses("burst-limit = 1"), [204, 204, 204]);
}

fn burst_limit() {
    let backend = Backend::accepting();
    let relay = with_http("rate-limit = 1\nburst-limit = 2", &backend.address, "");
    let answers = [(); 3].map(|()| write(&relay.http, "/write?db=x", "m v=1 1"));
    assert_eq!(
        answers.each_ref().map(|answer| answer.status),
        [204, 204, 429]
    );
    assert!(answers[2].header("retry-after").is_some());
}

fn ssl_combined_pem() {
    let (backend, folder) = (Backend::accepting(), Folder::new());
    let authority = Authority::new("ours");
    let pem = put(&folder, "pem", &authority.sign(&["localhost"]).combined());
    let key = format!("ssl-combined-pem = \"{pem}\"");
    let relay = with_http(&key, &backend.address, "");
    let plain = get(&relay.http, "/ping");
    assert_eq!(plain.status, 400);
    let mut client = authority.client().to(&relay.http);
    let ping = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(client.send(ping).answer_to("GET").unwrap().status, 204);
}

fn skip_tls_verification() {
    let backend = Secure::accepting(Identity::own(&["other"]).server(None));
    for (key, status) in [
        ("skip-tls-verification = true", 204),
        ("skip-tls-verification = false", 503),
        ("", 503),
    ] {
        let location = backend.at("127.0.0.1");
        let relay = Relay::of_text(&format!(
            "[[http]]\nbind-addr = \"127.0.0.1:0\"\n[[http.output]]\nname = \"o\"\nlocation = \"{location}\"\n{key}\n"
        ));
        assert_eq!(
            write(&relay.http, "/write?db=x", "m v=1 1").status,
            status,
            "{key}"
        );
    }
}

/// What stays of two points of one write for an output with this filter.
fn filtered(rules: &str) -> Vec<String> {
    let (all, some) = (Backend::accepting(), Backend::accepting());
    let relay = Relay::of_text(&format!(
        "[[http]]\nbind-addr = \"127.0.0.1:0\"\noutput = [{{ name = \"all\", location = \"http://{}\" }}, \
         {{ name = \"some\", location = \"http://{}\" }}]\n[[filter]]\n{rules}\noutputs = [\"some\"]\n",
        all.address, some.address
    ));
    let body = "cpu,host=a v=1 1\nmem,rack=b v=2 2";
    assert_eq!(write(&relay.http, "/write?db=x", body).status, 204);
    until("one has all", || !all.seen().is_empty());
    until("the other has some", || !some.seen().is_empty());
    let seen = String::from_utf8(some.seen()[0].body.clone()).unwrap();
    seen.lines().map(str::to_owned).collect()
}

fn filter_measurement() {
    assert_eq!(
        filtered("measurement-expression = \"c.u\""),
        ["cpu,host=a v=1 1"]
    );
}

/// Of each point: there one that did not match kept the whole write back.
fn filter_tag() {
    assert_eq!(filtered("tag-expression = \"^ra\""), ["mem,rack=b v=2 2"]);
}

fn filter_outputs() {
    assert_eq!(filtered("").len(), 2, "nothing asked");
}

fn filter_type() {
    assert_eq!(filtered("type = \"anything\"").len(), 2);
}

/// A key, and what it must do.
type Row = (&'static str, fn());

const ROWS: [Row; 28] = [
    ("http.name", name),
    ("http.bind-addr", bind_addr),
    ("http.default-retention-policy", default_retention_policy),
    ("http.default-ping-response", default_ping_response),
    ("http.health-timeout-ms", health_timeout_ms),
    ("http.output.name", output_name),
    ("http.output.location", output_location),
    ("http.output.endpoints", output_endpoints),
    ("http.output.timeout", output_timeout),
    ("http.output.buffer-size-mb", buffer_size_mb),
    ("http.output.max-batch-kb", max_batch_kb),
    ("http.output.max-delay-interval", max_delay_interval),
    ("udp.name", udp_name),
    ("udp.bind-addr", udp_bind_addr),
    ("udp.precision", udp_precision),
    ("udp.read-buffer", udp_read_buffer),
    ("udp.output.name", udp_output_name),
    ("udp.output.location", udp_output_location),
    ("udp.output.mtu", udp_output_mtu),
    ("http.output", output_location),
    ("http.rate-limit", rate_limit),
    ("http.burst-limit", burst_limit),
    ("http.ssl-combined-pem", ssl_combined_pem),
    ("http.output.skip-tls-verification", skip_tls_verification),
    ("filter.measurement-expression", filter_measurement),
    ("filter.tag-expression", filter_tag),
    ("filter.outputs", filter_outputs),
    ("filter.type", filter_type),
];

/// Each key of both relays.
const KEYS: &str = "http.name http.bind-addr http.default-retention-policy http.default-ping-response \
    http.health-timeout-ms http.output http.output.name http.output.location http.output.endpoints \
    http.output.timeout http.output.buffer-size-mb http.output.max-batch-kb http.output.max-delay-interval \
    http.rate-limit http.burst-limit http.ssl-combined-pem http.output.skip-tls-verification \
    filter.measurement-expression filter.tag-expression filter.outputs filter.type \
    udp.name udp.bind-addr udp.precision udp.read-buffer udp.output.name udp.output.location udp.output.mtu";

#[test]
fn every_key_does_what_it_did() {
    let rows: BTreeSet<&str> = ROWS.iter().map(|row| row.0).collect();
    assert_eq!(rows, KEYS.split_whitespace().collect());
    let mut failed = Vec::new();
    for rows in ROWS.chunks(4) {
        let running = rows.iter().map(|&(key, check)| (key, thread::spawn(check)));
        let running: Vec<_> = running.collect();
        failed.extend(
            running
                .into_iter()
                .filter_map(|(key, row)| row.join().err().map(|_| key)),
        );
    }
    assert!(failed.is_empty(), "{failed:?}: see above");
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_influxdb-relay"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

#[test]
fn the_go_relays_flags_are_understood() {
    for flag in ["-version", "--version"] {
        let output = run(&[flag]);
        assert!(output.status.success(), "{flag}");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("influxdb-relay "));
    }
    for flag in ["-h", "-help", "--help"] {
        let output = run(&[flag]);
        assert!(output.status.success(), "{flag}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("--config"),
            "{flag}"
        );
    }
    let file = std::env::temp_dir().join(format!("goforks-{}.toml", std::process::id()));
    std::fs::write(&file, "[[http]]\nbind-adr = \"x\"\n").unwrap();
    let path = file.to_str().unwrap();
    let equals = [format!("-config={path}"), format!("--config={path}")];
    for flags in [
        vec!["-config", path],
        vec!["--config", path],
        vec![equals[0].as_str()],
        vec![equals[1].as_str()],
        vec!["-v", "-config", path],
        vec!["-config", path, "-v"],
    ] {
        let output = run(&flags);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {said}");
        assert!(
            said.contains("bind-adr") && said.contains("bind-addr"),
            "{flags:?}: {said}"
        );
    }
    std::fs::remove_file(&file).unwrap();
    let output = run(&["-config", "/nowhere/at/all.conf"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("/nowhere/at/all.conf"), "{said}");
    assert_eq!(run(&["-nonsense"]).status.code(), Some(1));
}

#[test]
fn nobody_hangs_while_every_output_is_away() {
    // The fork let clients hang while all outputs were buffering.
    let address = own_address();
    let relay = with_http("", &address, "buffer-size-mb = 1\ntimeout = \"300ms\"");
    let mut client = Client::new(&relay.http);
    let begun = Instant::now();
    for _ in 0..5 {
        client.send(b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1");
        assert_eq!(client.answer().map(|answer| answer.status), Some(503));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody hangs");
}
