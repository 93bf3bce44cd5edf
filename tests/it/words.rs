//! What operators read when something is wrong: what was found, and what to do about it.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use crate::backend::Backend;
use crate::client::{Answer, ask, until, write};
use crate::relay::{self, Relay};
use crate::spool_site::Folder;
use crate::tls_bench::{Authority, Identity, Secure, put};

/// Runs a subcommand: its exit code, what it prints, what it says is wrong.
fn run(arguments: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"))
        .args(arguments)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

const OUTPUTS: (&str, &str) = ("RELAY_HTTP_OUTPUTS", "a=http://127.0.0.1:1");

#[test]
fn a_ca_file_that_lacks_the_issuer_is_named() {
    let (folder, ours, others) = (
        Folder::new(),
        Authority::new("ours"),
        Authority::new("others"),
    );
    let ca = put(&folder, "ca", &ours.pem);
    let named = format!("the configured ca-file {ca} does not hold");
    for (identity, is_set) in [
        (others.sign(&["127.0.0.1"]), true),
        (Identity::own(&["127.0.0.1"]), true),
        (others.sign(&["127.0.0.1"]), false),
    ] {
        let backend = Secure::accepting(identity.server(None));
        let outputs = format!("a={}", backend.at("127.0.0.1"));
        let mut env = vec![
            ("RELAY_HTTP_OUTPUTS", outputs.as_str()),
            ("RELAY_PROBE_INTERVAL", "50ms"),
        ];
        if is_set {
            env.push(("RELAY_HTTP_CA_FILE", &ca));
        }
        let relay = Relay::start(&[], &env);
        until("it is said", || {
            let page = ask(&relay.admin, "GET", "/status", "", b"").body;
            page.contains("its certificate") && page.contains(&named) == is_set
        });
        until("it is logged", || relay.said().contains("its certificate"));
        let said = relay.said();
        assert_eq!(said.contains(&named), is_set, "{said}");
        assert_eq!(said.contains("in ca-file"), !is_set, "{said}");
    }
}

fn refused(env: &[(&str, &str)]) -> String {
    let mut command = relay::command();
    command
        .env(OUTPUTS.0, OUTPUTS.1)
        .env("RELAY_HTTP_BIND_ADDR", "127.0.0.1:0");
    let refused = Relay::run(command.envs(env.iter().copied()))
        .err()
        .expect("it is refused");
    assert_eq!(refused.code, Some(2), "{}", refused.said);
    refused.said
}

#[test]
fn who_holds_an_address_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let said = refused(&[("RELAY_HTTP_BIND_ADDR", &address.to_string())]);
    assert!(said.contains("another process listens there"), "{said}");

    // The near end of a connection, as the kernel gave it a port.
    let stream = TcpStream::connect(address).unwrap();
    let near = stream.local_addr().unwrap();
    for bind in [
        near.to_string(),
        format!("0.0.0.0:{}", near.port()),
        format!(":{}", near.port()),
    ] {
        let said = refused(&[("RELAY_HTTP_BIND_ADDR", &bind)]);
        assert!(!said.contains("another process listens"), "{bind}: {said}");
        assert!(said.contains("connection to 127.0.0.1:"), "{bind}: {said}");
        assert!(said.contains("ip_local_reserved_ports"), "{bind}: {said}");
    }

    let udp = |bind: SocketAddr| {
        refused(&[
            ("RELAY_UDP_BIND_ADDR", &bind.to_string()),
            ("RELAY_UDP_OUTPUTS", "u=127.0.0.1:9"),
        ])
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let said = udp(socket.local_addr().unwrap());
    assert!(said.contains("another process listens there"), "{said}");
    socket.connect("127.0.0.1:9").unwrap();
    let said = udp(socket.local_addr().unwrap());
    assert!(
        !said.contains("another process listens") && said.contains("connection to 127.0.0.1:9"),
        "{said}"
    );
}

#[test]
fn hash_refuses_rights_that_are_none() {
    for (arguments, words) in [
        (&["hash", "--token", "n", "reed=x"][..], "`read=x`"),
        (
            &["hash", "--token", "n", "wrte=a,b", "read=x"],
            "`write=a,b`",
        ),
        (&["hash", "--token", "n", "al"], "`all`"),
        (&["hash", "--token", "n", "everything"], "read=DB"),
        (&["hash", "--token", "n", "read="], "without a name"),
        (&["hash", "n", "reed=x"], "`read=x`"), // before the password is read
    ] {
        let (code, out, said) = run(arguments, &[]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    for arguments in [
        &["hash", "--token"][..],
        &["hash", "--token", "n"],
        &["hash", "--token", "n", "read=*", "write=a,b", "admin=c"],
        &["hash", "--token", "n", "all"],
    ] {
        let (code, _, said) = run(arguments, &[]);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_folder_that_is_no_spool_is_an_error() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("something"), "else").unwrap();
    let dir = folder.path().to_str().unwrap();
    for verb in ["list", "show", "verify", "export"] {
        let (code, out, said) = run(&["spool", verb, "--dir", dir], &[]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{verb}: {said}");
        assert!(said.contains("no spool"), "{verb}: {said}");
    }
    let (code, _, said) = run(&["spool", "drop", "--dir", dir, "--backend", "a"], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no spool"), "{said}");
    assert_eq!(
        std::fs::read_dir(dir).unwrap().count(),
        1,
        "nothing was made there"
    );
}

#[test]
fn drop_on_a_live_spool_names_the_flush() {
    let (folder, backend) = (Folder::new(), Backend::accepting());
    let dir = folder.path().to_str().unwrap();
    let _relay = Relay::start(&[("a", &backend.address)], &[("RELAY_SPOOL_DIR", dir)]);
    assert_eq!(
        run(&["spool", "list", "--dir", dir], &[]).0,
        Some(0),
        "an empty spool is one"
    );
    let (code, _, said) = run(
        &["spool", "drop", "--dir", dir, "--backend", "a", "--yes"],
        &[],
    );
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("/admin/flush?backend=a"), "{said}");
}

fn flush(relay: &Relay, query: &str) -> Answer {
    ask(
        &relay.admin,
        "POST",
        &format!("/admin/flush{query}"),
        "",
        b"",
    )
}

#[test]
fn a_flush_may_be_for_one_backend() {
    let folder = Folder::new();
    let backend = Backend::accepting();
    let (b, c) = (Backend::nobody(), Backend::nobody());
    let outputs = [("a", backend.address.as_str()), ("b 1", &b), ("c", &c)];
    let dir = folder.path().to_str().unwrap();
    let relay = Relay::start(&outputs, &[("RELAY_SPOOL_DIR", dir)]);
    let owed =
        |name: &str| relay.metric(&format!("relay_spool_owed_records{{backend=\"{name}\"}}"));
    until("both are owed", || {
        assert_eq!(write(&relay.http, "/write?db=d", "m v=1 1").status, 204);
        owed("b 1") > 0 && owed("c") > 0
    });
    for (query, words) in [
        ("?backend=B", "a, b 1, c"),
        ("?backend=", "a, b 1, c"),
        ("?backend=nobody", "a, b 1, c"),
    ] {
        let answer = flush(&relay, query);
        assert_eq!(answer.status, 404, "{query}: {answer:?}");
        assert!(answer.body.contains(words), "{query}: {answer:?}");
    }
    for query in ["?backend=c&backend=a", "?backnd=c", "?backend=c&x=y", "?x"] {
        let answer = flush(&relay, query);
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
    }
    assert!(owed("b 1") > 0 && owed("c") > 0, "nothing is dropped");
    assert_eq!(flush(&relay, "?backend=b%201").status, 204);
    until("one is dropped", || owed("b 1") == 0);
    assert!(owed("c") > 0, "the other is not");
    until("it is said whose", || {
        relay.said().contains("/admin/flush") && relay.said().contains("b 1")
    });
    assert_eq!(flush(&relay, "").status, 204);
    until("all are dropped", || owed("c") == 0);
}

#[test]
fn check_ends_with_a_plain_line() {
    let (code, out, said) = run(&["check"], &[OUTPUTS]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let last = out.lines().last().unwrap();
    assert!(last.starts_with("fine:"), "{last}");
    let (code, out, said) = run(
        &["check"],
        &[OUTPUTS, ("RELAY_CPUS", "x"), ("RELAY_LOG", "loud")],
    );
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(
        said.lines().last().unwrap(),
        "2 problems: the relay does not start with this",
        "{said}"
    );
    let (code, _, said) = run(&["check"], &[OUTPUTS, ("RELAY_LOG", "loud")]);
    assert_eq!(code, Some(1));
    assert_eq!(
        said.lines().last().unwrap(),
        "1 problem: the relay does not start with this",
        "{said}"
    );
    let (code, _, said) = run(
        &["check"],
        &[OUTPUTS, ("RELAY_HTTP_SSL_COMBINED_PEM", "/nonexistent")],
    );
    assert_eq!(code, Some(1));
    assert_eq!(
        said.lines().last().unwrap(),
        "1 problem: the relay does not start with this",
        "{said}"
    );
}

#[test]
fn check_shows_only_what_is_changed_if_asked() {
    let env = [
        OUTPUTS,
        ("RELAY_LOG", "info"),
        ("RELAY_MAX_BODY_SIZE", "1MB"),
    ];
    let (code, out, said) = run(&["check", "--changed"], &env);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let keys: Vec<&str> = out
        .lines()
        .filter_map(|line| Some(line.split_once(" = ")?.0.trim()))
        .collect();
    assert!(keys.contains(&"limits.max-body-size"), "{out}");
    assert!(keys.contains(&"http[0].output[0].name"), "{out}");
    assert!(keys.contains(&"log.level"), "somebody has set it: {out}");
    assert!(!keys.contains(&"cpus"), "{out}");
    assert!(out.lines().last().unwrap().starts_with("fine:"), "{out}");
}

#[test]
fn check_speaks_json_if_asked() {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let env = [
        OUTPUTS,
        ("RELAY_MAX_BODY_SIZE", "1MB"),
        ("RELAY_ADMIN_TOKEN", "hunter2hunter2hunter2hunter2"),
    ];
    let (code, out, said) = run(&["check", "--json"], &env);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let page = json(&out);
    assert_eq!(page["ok"], true);
    assert_eq!(page["problems"], serde_json::json!([]));
    let row = |key: &str| {
        page["values"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["key"] == key)
            .cloned()
            .unwrap()
    };
    let body = serde_json::json!({"key": "limits.max-body-size", "value": "1MB", "source": "env"});
    assert_eq!(
        row("limits.max-body-size")["source"],
        body["source"],
        "{page}"
    );
    assert_eq!(
        row("log.level"),
        serde_json::json!({"key": "log.level", "value": "info", "source": "default"})
    );
    assert!(
        page["notes"].is_array() && page["notInForce"].is_array(),
        "{page}"
    );
    assert!(!out.contains("hunter2"), "{out}");
    let (_, out, _) = run(&["check", "--json", "--changed"], &env);
    let changed = json(&out);
    let rows = changed["values"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.len() < page["values"].as_array().unwrap().len());
    assert!(rows.iter().all(|row| row["source"] != "default"));
    let (code, out, _) = run(&["check", "--json"], &[("RELAY_CPUS", "x")]);
    assert_eq!(code, Some(1));
    let page = json(&out);
    assert_eq!(page["ok"], false);
    assert_eq!(page["problems"].as_array().unwrap().len(), 2, "{page}");
}
