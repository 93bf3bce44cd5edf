//! Files with secrets: the relay does not start, and does not reload, with one that is open to all users.

use std::fs::{Permissions, set_permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::backend::Backend;
use crate::client::{until, write};
use crate::relay::Relay;
use crate::reload::{Filed, config};
use crate::spool_site::Folder;
use crate::tls_bench::{Authority, put};

/// Writes a file that only its owner may read. One that is there keeps its mode.
pub(crate) fn private(path: &Path, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

fn change(path: &str, mode: u32) {
    set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// All kinds of files at once, in one configuration.
struct Site {
    folder: Folder,
    /// Those that hold secrets.
    secret: Vec<String>,
    /// Those that everybody may read.
    open: Vec<String>,
}

impl Site {
    fn new() -> Self {
        let (folder, ours) = (Folder::new(), Authority::new("ours"));
        let door = ours.sign(&["localhost"]);
        let line = "sha256:3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0 all";
        let hash =
            "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
        let file = |name: &str, text: &str| put(&folder, name, text);
        let secret = vec![
            file("token", "hunter2"),
            file("users", &format!("jane {hash} all")),
            file("tokens", line),
            file("password", "hunter2"),
            file("pem", &door.combined()),
            file("key", &door.key),
            file("client", &door.combined()),
        ];
        let open = vec![file("cert", &door.cert), file("ca", &ours.pem)];
        for path in &open {
            change(path, 0o644);
        }
        let text = format!(
            "admin.bind-addr = \"127.0.0.1:0\"\nadmin.token-file = \"{0}\"\n\
             [[http]]\nname = \"one\"\nbind-addr = \"127.0.0.1:0\"\nusers-file = \"{1}\"\ntokens-file = \"{2}\"\n\
             ssl-combined-pem = \"{4}\"\nssl-client-ca = \"{8}\"\n\
             [[http.output]]\nname = \"a\"\nlocation = \"https://127.0.0.1:9/\"\nusername = \"u\"\n\
             password-file = \"{3}\"\nclient-cert = \"{6}\"\nca-file = \"{8}\"\n\
             [[http]]\nname = \"two\"\nbind-addr = \"127.0.0.1:0\"\nssl-cert = \"{7}\"\nssl-key = \"{5}\"\n\
             [[http.output]]\nname = \"b\"\nlocation = \"http://127.0.0.1:9/\"\ntoken-file = \"{0}\"\n",
            secret[0],
            secret[1],
            secret[2],
            secret[3],
            secret[4],
            secret[5],
            secret[6],
            open[0],
            open[1]
        );
        let config = folder.path().join("relay.toml");
        std::fs::write(&config, text).unwrap();
        change(&config.display().to_string(), 0o644); // it holds no secret itself
        Self {
            folder,
            secret,
            open,
        }
    }

    fn said_by(&self, command: &str) -> (Option<i32>, String) {
        let mut relay = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"));
        let file = self.folder.path().join("relay.toml");
        let out = relay
            .args([command, "--config"])
            .arg(file)
            .output()
            .unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    }
}

#[test]
fn secret_files_that_all_may_read_are_all_named_and_refused() {
    let site = Site::new();
    assert_eq!(site.said_by("check"), (Some(0), String::new()));
    for mode in [0o644, 0o602, 0o646] {
        for path in &site.secret {
            change(path, mode);
        }
        for command in ["check", "serve"] {
            let (code, said) = site.said_by(command);
            assert_eq!(code, Some(1), "{said}");
            for path in &site.secret {
                let mut lines = said
                    .lines()
                    .filter(|line| line.contains(&format!("{path}: ")));
                let line = lines.next().unwrap_or_else(|| panic!("no {path}: {said}"));
                let mode = format!("(mode {mode:04o})");
                assert!(line.contains(&mode) && line.contains("chmod 640"), "{said}");
                assert!(lines.next().is_none(), "each once: {said}");
            }
            for path in &site.open {
                assert!(!said.contains(path), "{path}: {said}");
            }
            assert!(!said.contains("hunter2") && !said.contains("3c469e"));
        }
    }
    for path in &site.secret {
        change(path, 0o640);
    }
    assert_eq!(site.said_by("check"), (Some(0), String::new()));
    // A file that is named for a certificate, but holds the key too, is a secret one.
    std::fs::copy(&site.secret[4], &site.open[0]).unwrap();
    change(&site.open[0], 0o644);
    let (code, said) = site.said_by("check");
    assert_eq!(code, Some(1));
    assert!(
        said.contains(&site.open[0]) && said.contains("chmod 640"),
        "{said}"
    );
}

#[test]
fn secret_in_a_configuration_that_all_may_read_is_named() {
    let folder = Folder::new();
    let path = folder.path().join("relay.toml");
    let text = "[admin]\nbind-addr = \"127.0.0.1:0\"\ntoken = \"hunter2\"\n[[http]]\n\
                [[http.output]]\nname = \"a\"\nlocation = \"http://u:hunter2@127.0.0.1:9\"\n";
    private(&path, text);
    let check = || {
        let mut relay = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"));
        relay
            .args(["check", "--config"])
            .arg(&path)
            .output()
            .unwrap()
    };
    let closed = String::from_utf8(check().stdout).unwrap();
    assert!(!closed.contains("chmod"), "{closed}");
    change(&path.display().to_string(), 0o644);
    let out = check();
    let said = String::from_utf8(out.stdout).unwrap();
    assert_eq!(
        out.status.code(),
        Some(0),
        "a Go relay's file loads unchanged"
    );
    for word in [
        "admin.token",
        "http[0].output[0].location",
        "(mode 0644)",
        "chmod 640",
    ] {
        assert!(said.contains(word), "no {word}: {said}");
    }
    assert!(!said.contains("hunter2"));
}

#[test]
fn secret_file_that_opens_to_all_while_the_relay_runs_changes_nothing() {
    let a = Backend::accepting();
    let (folder, token) = (Folder::new(), "token-file");
    let path = put(&folder, token, "one");
    let with = |limit: u32| {
        let more = format!("admin.token-file = \"{path}\"\nlimits.max-connections = {limit}");
        config(&more, &[("a", &a.address)])
    };
    let site = Filed::start(&with(10));
    change(&path, 0o604);
    site.becomes(&with(20));
    let said = site.relay.said();
    assert!(
        said.contains("(mode 0604)") && said.contains("not reloaded"),
        "{said}"
    );
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "m v=1 1").status,
        204
    );
    change(&path, 0o640);
    let reloads = || site.relay.said().matches(" reloaded backends").count();
    site.relay.reload();
    assert_eq!(reloads(), 1, "{}", site.relay.said());
}

#[test]
fn secret_key_that_opens_to_all_is_not_taken_until_it_is_closed_again() {
    let (folder, ours) = (Folder::new(), Authority::new("ours"));
    let pem = put(&folder, "pem", &ours.sign(&["localhost"]).combined());
    let a = Backend::accepting();
    let env = [("RELAY_HTTP_SSL_COMBINED_PEM", &*pem)];
    let relay = Relay::start(&[("a", &a.address)], &env);
    let client = ours.client();
    let shown = || client.connect(&relay.http).unwrap().shown();
    let old = shown();
    let new = folder.path().join("open");
    std::fs::write(&new, ours.sign(&["localhost"]).combined()).unwrap();
    change(&new.display().to_string(), 0o644);
    std::fs::rename(&new, &pem).unwrap();
    until("it is said", || relay.said().contains("the old one stays"));
    assert!(relay.said().contains("(mode 0644)"), "{}", relay.said());
    assert_eq!(shown(), old);
    change(&pem, 0o640);
    until("the new one is shown", || shown() != old);
}
