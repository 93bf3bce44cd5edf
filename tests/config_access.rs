//! Who may do what, and how often, as operators write it.
#![allow(clippy::unwrap_used, clippy::panic)]

use influxdb_relay::config::problem::Problem;
use influxdb_relay::config::{Effective, Facts, Input, read};
use influxdb_relay::plan::Plan;
use influxdb_relay::plan::access::{RatePlan, RatesPlan, ReachPlan};

/// Of "password", by the reference implementation.
const ARGON: &str =
    "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
const SHA: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn load(env: &[(&str, &str)]) -> Result<Effective, Vec<Problem>> {
    let outputs = ("RELAY_HTTP_OUTPUTS", "a=http://127.0.0.1:8086");
    let env = env.iter().chain([&outputs]);
    let env: Vec<_> = env
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let secrets = |path: &str| match path {
        "/run/secret" => Ok("hunter2\n".to_owned()),
        "/run/tokens" => Ok(format!("hunter2 {SHA} all\n")),
        _ => Err("no such file".to_owned()),
    };
    let facts = Facts {
        cpus_allowed: vec![0],
        cpu_quota: None,
    };
    read(&Input {
        file: None,
        env: &env,
        secrets: &secrets,
        facts: &facts,
    })
}

fn plan(env: &[(&str, &str)]) -> Plan {
    load(env).unwrap().plan
}

/// The lines of `users` or `tokens`, and what is found.
#[test]
fn lists_are_held_to_their_form_and_quote_nothing() {
    let twice = format!("{SHA} all\n").repeat(2);
    let slow: String = (0..9).map(|n| format!("t{n} {ARGON} all\n")).collect();
    let costly = ARGON.replace("m=256", "m=4194304");
    for (variable, text, want) in [
        ("USERS", "hunter2 hunter2 all", "line 1: no hash"),
        ("USERS", "hunter2", "line 1: no hash"),
        (
            "USERS",
            "a:b ARGON all",
            "line 1: no name that a user can have",
        ),
        ("USERS", "ARGON all", "line 1: no name that a user can have"),
        ("USERS", "a SHA all", "line 1: a password held as sha256"),
        ("USERS", "a ARGON", "line 1: no rights"),
        ("USERS", "a ARGON # all", "line 1: no rights"),
        (
            "USERS",
            "a ARGON everything",
            "line 1: a word that is no right",
        ),
        ("USERS", "a ARGON own=x", "line 1: a word that is no right"),
        (
            "USERS",
            "a ARGON read=x,,y",
            "line 1: a right on a database without a name",
        ),
        (
            "USERS",
            "a ARGON all\n\na ARGON all",
            "line 3: a name that stands there twice",
        ),
        ("USERS", "# nobody", "no user that can be used"),
        (
            "USERS",
            &format!("a {costly} all"),
            "line 1: an argon2id hash that costs more than m=65536, t=10, p=16",
        ),
        ("TOKENS", "hunter2", "line 1: no hash"),
        (
            "TOKENS",
            "sha256:hunter2 all",
            "line 1: a sha256: without its 64 hexadecimal digits",
        ),
        ("TOKENS", &twice, "line 2: a token that stands there twice"),
        ("TOKENS", &slow, "9 tokens that are held as argon2id"),
    ] {
        let text = text.replace("ARGON", ARGON).replace("SHA", SHA);
        let variable = format!("RELAY_HTTP_{variable}");
        let problems = load(&[(&variable, &text)]).expect_err(&text);
        let problem = problems.iter().find(|problem| problem.found == want);
        let problem = problem.unwrap_or_else(|| panic!("{text}: {problems:?}"));
        assert_eq!(problem.at, variable, "{text}");
        assert!(!problem.want.is_empty(), "{text}");
        let said = format!("{problems:?}");
        assert!(
            !said.contains("hunter2") && !said.contains("bQk8UB"),
            "{said}"
        );
    }
    let problems = load(&[("RELAY_HTTP_USERS_FILE", "/run/secret")]).unwrap_err();
    let is_there = |problem: &Problem| problem.at == "RELAY_HTTP_USERS_FILE";
    assert!(problems.iter().all(is_there), "{problems:?}");
}

#[test]
fn entries_have_the_rights_that_they_are_given() {
    let users = format!(
        "a\t{ARGON} read=*  write=x,y%20z,q%2Cr # telegraf\nb {ARGON} admin=ops read=d+e\nc {ARGON} all"
    );
    let tokens = format!("{SHA} write=w\r\nlab {ARGON} read=r\r\n");
    let effective = load(&[("RELAY_HTTP_USERS", &users), ("RELAY_HTTP_TOKENS", &tokens)]);
    let effective = effective.unwrap();
    let access = effective.plan.listeners[0].access.as_ref().unwrap();
    let on = |names: &[&str]| ReachPlan {
        all: names.contains(&"*"),
        databases: names
            .iter()
            .filter(|&&name| name != "*")
            .map(|&name| name.to_owned())
            .collect(),
    };
    let rights = |n: usize| access.users[n].rights.clone();
    assert_eq!(rights(0).read, on(&["*"]));
    assert_eq!(rights(0).write, on(&["x", "y z", "q,r"]));
    assert_eq!(rights(0).admin, on(&[]));
    assert_eq!(rights(1).admin, on(&["ops"]));
    assert_eq!(rights(1).read, on(&["d+e"]));
    assert_eq!(rights(2).admin, on(&["*"]));
    let labels: Vec<&str> = access
        .tokens
        .iter()
        .map(|token| token.name.as_str())
        .collect();
    assert_eq!(labels, ["", "lab"]);
    let shown = |key: &str| {
        let row = effective.rows.iter().find(|row| row.key == key);
        row.unwrap().value.clone()
    };
    assert_eq!(shown("http[0].users"), "3 users");
    assert_eq!(shown("http[0].tokens"), "2 tokens");
}

#[test]
fn rates_without_what_they_need_are_said() {
    let found = plan(&[("RELAY_HTTP_RATE_LIMIT", "9")]);
    let want = RatePlan {
        per_second: 9,
        burst: 1,
    };
    assert_eq!(found.listeners[0].rates.listener, Some(want));
    assert!(found.not_in_force.is_empty());
    let found = plan(&[("RELAY_HTTP_CLIENT_BURST_LIMIT", "9")]);
    assert_eq!(found.listeners[0].rates, RatesPlan::default());
    let said = "RELAY_HTTP_CLIENT_BURST_LIMIT is set, but http[0].client-rate-limit is 0: there is no limit";
    assert_eq!(found.not_in_force, [said]);
    let found = plan(&[("RELAY_HTTP_USER_RATE_LIMIT", "9")]);
    assert_eq!(found.listeners[0].rates.user, None);
    let said = found.not_in_force.join("\n");
    assert!(said.contains("neither users nor tokens"), "{said}");
    let found = plan(&[
        ("RELAY_HTTP_USER_RATE_LIMIT", "9"),
        ("RELAY_HTTP_TOKENS_FILE", "/run/tokens"),
    ]);
    assert!(found.listeners[0].rates.user.is_some() && found.not_in_force.is_empty());
}
