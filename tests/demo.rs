//! The demo adds up: with real `influxd` where there is one, and with nothing installed.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::process::Command;

fn play(more: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"));
    // An operator's own variables are not the demo's.
    command
        .args(["demo", "--seconds", "6"])
        .args(more)
        .env("RELAY_SPOOL_DIR", "/nowhere");
    let played = command.output().unwrap();
    let said = String::from_utf8_lossy(&played.stdout).into_owned();
    let errors = String::from_utf8_lossy(&played.stderr);
    assert!(played.status.success(), "{said}\n{errors}");
    said
}

fn number(said: &str, name: &str) -> u64 {
    let row = said
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    row.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn every_acknowledged_point_is_in_both_backends_though_two_died() {
    for more in [&[][..], &["--sinks"]] {
        let said = play(more);
        for words in [
            "kill -9 backend 2",
            "kill -9 relay 1",
            "relay 1 is back",
            "backend 2 is back",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let acknowledged = number(&said, "acknowledged");
        assert!(acknowledged > 1_000 && number(&said, "sent") >= acknowledged);
        assert!(number(&said, "in backend 1") >= acknowledged);
        assert!(number(&said, "in backend 2") >= acknowledged);
        assert!(
            said.ends_with("every acknowledged point is in both backends\n"),
            "{said}"
        );
    }
}
