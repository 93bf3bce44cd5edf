//! Files of certificates that change while the relay runs, and files that it does not start with.

use std::path::Path;
use std::process::Command;

use crate::backend::Backend;
use crate::client::{Client, ask_on, until, write};
use crate::relay::Relay;
use crate::spool_site::Folder;
use crate::tls_bench::{Authority, Identity, Secure, put};

#[test]
fn tls_certificate_is_replaced_under_open_connections_and_a_bad_one_is_not_taken() {
    let (folder, authority) = (Folder::new(), Authority::new("ours"));
    let first = authority.sign(&["localhost"]);
    let pem = put(&folder, "pem", &first.combined());
    let backend = Backend::accepting();
    let env = [("RELAY_HTTP_SSL_COMBINED_PEM", &*pem)];
    let relay = Relay::start(&[("a", &backend.address)], &env);
    let client = authority.client();
    let shown = || client.connect(&relay.http).unwrap().shown();
    let old = shown();
    let mut open = client.to(&relay.http);
    let mut works = || ask_on(&mut open, "POST", "/write?db=x", "", b"m v=1 1").status == 204;
    assert!(works());

    let second = authority.sign(&["localhost"]);
    put(&folder, "pem", &second.combined());
    until("the new one is shown", || shown() != old);
    assert!(works(), "what was open goes on");
    let new = shown();

    let other = authority.sign(&["localhost"]);
    for bad in [
        "no PEM at all".to_owned(),
        other.cert.clone(),
        format!("{}{}", other.cert, first.key),
        String::new(),
    ] {
        let before = relay.said().matches("the old one stays").count();
        put(&folder, "pem", &bad);
        until("it is said", || {
            relay.said().matches("the old one stays").count() > before
        });
        assert_eq!(shown(), new);
    }
    std::fs::remove_file(&pem).unwrap();
    until("it is said", || {
        relay.said().matches("the old one stays").count() == 5
    });
    assert_eq!(shown(), new);
    // SIGHUP has it looked at at once, and told again.
    relay.hang_up();
    until("it is said", || {
        relay.said().matches("the old one stays").count() == 6
    });
    put(&folder, "pem", &other.combined());
    relay.hang_up();
    until("the third is shown", || shown() != new);
    assert!(works());
    for identity in [&first, &second, &other] {
        let secret = identity.key.lines().nth(1).unwrap();
        assert!(!relay.said().contains(secret), "no key is shown");
    }
    assert_eq!(
        relay.said().matches("the old one stays").count(),
        6,
        "each thing is said once"
    );
}

#[test]
fn tls_pair_of_files_is_taken_when_both_are_there() {
    let (folder, authority) = (Folder::new(), Authority::new("ours"));
    let first = authority.sign(&["localhost"]);
    let (cert, key) = (
        put(&folder, "cert", &first.cert),
        put(&folder, "key", &first.key),
    );
    let backend = Backend::accepting();
    let env = [
        ("RELAY_HTTP_SSL_CERT", &*cert),
        ("RELAY_HTTP_SSL_KEY", &*key),
    ];
    let relay = Relay::start(&[("a", &backend.address)], &env);
    let client = authority.client();
    let old = client.connect(&relay.http).unwrap().shown();
    let second = authority.sign(&["localhost"]);
    put(&folder, "cert", &second.cert);
    put(&folder, "key", &second.key);
    until("the new one is shown", || {
        client.connect(&relay.http).unwrap().shown() != old
    });
    assert!(
        !relay.said().contains("the old one stays"),
        "{}",
        relay.said()
    );
}

#[test]
fn tls_trust_in_a_backend_changes_with_its_file() {
    let (folder, one, other) = (
        Folder::new(),
        Authority::new("one"),
        Authority::new("other"),
    );
    let ca = put(&folder, "ca", &one.pem);
    let backend = Secure::accepting(other.sign(&["127.0.0.1"]).server(None));
    let env = [
        (
            "RELAY_HTTP_OUTPUTS",
            &*format!("a={}", backend.at("127.0.0.1")),
        ),
        ("RELAY_HTTP_CA_FILE", &*ca),
        ("RELAY_PROBE_INTERVAL", "50ms"),
    ];
    let relay = Relay::start(&[], &env);
    assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 503);
    put(&folder, "ca", &format!("{}{}", one.pem, other.pem));
    until("it is believed", || {
        write(&relay.http, "/write?db=x", "m v=1 1").status == 204
    });
    assert!(backend.probes() > 0);
}

#[test]
fn tls_files_that_cannot_be_used_are_all_named_before_the_start() {
    let (folder, authority) = (Folder::new(), Authority::new("ours"));
    let (one, two) = (authority.sign(&["a"]), authority.sign(&["b"]));
    let file = |name: &str, text: &str| put(&folder, name, text);
    let (cert, key, ca) = (
        file("c", &one.cert),
        file("k", &two.key),
        file("ca", &authority.pem),
    );
    let (empty, missing) = (
        file("e", ""),
        folder.path().join("no").display().to_string(),
    );
    let own = file("own", &Identity::own(&["x"]).combined());
    let toml = format!(
        r#"
[[http]]
name = "mismatch"
bind-addr = "127.0.0.1:0"
ssl-cert = "{cert}"
ssl-key = "{key}"
output = [{{ name = "no-ca", location = "https://h", ca-file = "{missing}" }},
          {{ name = "no-key", location = "https://h", ca-file = "{ca}", client-cert = "{cert}" }}]
[[http]]
name = "no-clients"
bind-addr = "127.0.0.1:0"
ssl-combined-pem = "{own}"
ssl-client-ca = "{empty}"
output = [{{ name = "b_d", location = "https://under_score-", ca-file = "{ca}" }}]
"#
    );
    let config = file("toml", &toml);
    for command in ["check", "serve"] {
        let ran = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"))
            .args([command, "--config", &config])
            .env("RELAY_ADMIN_BIND_ADDR", "")
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1), "{command}: {said}");
        for (whose, path, found) in [
            ("mismatch", &cert, "is not for the key in"),
            ("no-ca", &missing, "No such file"),
            ("no-key", &cert, "no private key"),
            ("no-clients", &empty, "no certificate in it"),
        ] {
            let line = said
                .lines()
                .find(|line| line.contains(&format!("{whose}: ")));
            let line = line.unwrap_or_else(|| panic!("{whose}: {said}"));
            assert!(line.contains(&**path) && line.contains(found), "{line}");
        }
        let key = std::fs::read_to_string(Path::new(&key)).unwrap();
        let secret = key.lines().nth(1).unwrap();
        assert!(!said.contains(secret));
    }
    let mut client = Client::new(&Relay::start(&[("a", "127.0.0.1:1")], &[]).http);
    client.finish();
}
