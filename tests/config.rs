//! The configuration as operators write it: every key, both Go dialects, every problem at once.
#![allow(clippy::unwrap_used, clippy::panic)]

use influxdb_relay::config::problem::Problem;
use influxdb_relay::config::section::Source;
use influxdb_relay::config::{Effective, Facts, Input, keys, read};
use influxdb_relay::plan::BackendId;
use std::collections::BTreeSet;
use std::time::Duration;

fn load(file: Option<&str>, env: &[(&str, &str)]) -> Result<Effective, Vec<Problem>> {
    let env: Vec<(String, String)> = env
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let secrets = |path: &str| match path {
        "/run/secret" => Ok("hunter2\n".to_owned()),
        "/run/empty" => Ok("\n".to_owned()),
        _ => Err("no such file".to_owned()),
    };
    let facts = Facts {
        cpus_allowed: vec![0, 1, 2, 3, 6],
    };
    read(&Input {
        file: file.map(|text| ("r.toml", text)),
        env: &env,
        secrets: &secrets,
        facts: &facts,
    })
}

fn file(text: &str) -> Effective {
    load(Some(text), &[]).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
}

fn env(env: &[(&str, &str)]) -> Effective {
    load(None, env).unwrap_or_else(|problems| panic!("{problems:#?}\n{env:?}"))
}

fn row<'e>(effective: &'e Effective, key: &str) -> (&'e str, Source) {
    let row = effective
        .rows
        .iter()
        .find(|row| row.key == key)
        .unwrap_or_else(|| panic!("no row {key}"));
    (&row.value, row.source)
}

/// The rows of a table of tests: cells with ` | ` between them.
fn cells<const N: usize>(table: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    table.trim().lines().map(|line| {
        let mut cells = line.split(" | ").map(str::trim);
        let row = std::array::from_fn(|_| cells.next().unwrap_or_else(|| panic!("{line}")));
        assert_eq!(cells.next(), None, "{line}");
        row
    })
}

const ORIGINAL: &str = r#"
[[http]]
name = "example-http"
bind-addr = "127.0.0.1:9096"
default-retention-policy = ""
output = [
    { name="local1", location = "http://127.0.0.1:8086/write", timeout="10s" },
    { name="local2", location = "http://127.0.0.1:7086/write", buffer-size-mb = 100, max-batch-kb = 50, max-delay-interval = "5s" },
    { name="kapacitor", location = "http://kapacitor:9092/write", skip-tls-verification = false },
]

[[udp]]
name = "example-udp"
bind-addr = "127.0.0.1:9097"
read-buffer = 0 # default
output = [
    { name="local1", location="127.0.0.1:8089", mtu=512 },
    { name="local2", location="127.0.0.1:7089", mtu=1024 },
]
[admin]
bind-addr = ""
"#;

const FORK: &str = r#"
[[http]]
name = "example-http-influxdb"
bind-addr = "0.0.0.0:9096"
default-ping-response = 200
rate-limit = 5
burst-limit = 10
health-timeout-ms = 10000

[[http.output]]
name = "local-influxdb01"
location = "http://127.0.0.1:8086/"
endpoints = {write="/write", write_prom="/api/v1/prom/write", ping="/ping", query="/query"}
timeout = "10s"

[[http.output]]
name = "local-influxdb02"
location = "http://127.0.0.1:7086/tenant"
endpoints = {write="/write", write_prom="/api/v1/prom/write", ping="/ping", query="/query"}
timeout = "0s"

[[filter]]
tag-expression = "foo"
measurement-expression = "bar.*"
outputs = ["local-influxdb01"]
"#;

#[test]
fn a_file_of_the_original_loads_unchanged() {
    let effective = file(ORIGINAL);
    let plan = &effective.plan;
    let door = &plan.listeners[0];
    assert_eq!(
        (door.name.as_str(), door.bind.to_string().as_str()),
        ("example-http", "127.0.0.1:9096")
    );
    assert_eq!(
        (
            door.ping_status,
            door.acks,
            door.default_retention_policy.as_deref()
        ),
        (204, 1, None)
    );
    assert_eq!(door.outputs, [BackendId(0), BackendId(1), BackendId(2)]);
    let second = &plan.backends[1];
    assert_eq!(
        (
            second.host.as_str(),
            second.port,
            second.host_header.as_str()
        ),
        ("127.0.0.1", 7086, "127.0.0.1:7086")
    );
    assert_eq!(
        (
            second.endpoints.write.as_str(),
            second.endpoints.ping.as_str()
        ),
        ("/write", "/ping")
    );
    assert_eq!(
        (second.timeout, second.label.as_str()),
        (Duration::from_secs(10), "local2")
    );
    assert!(plan.refused.is_empty());
    assert_eq!(plan.not_in_force.len(), 4, "{:#?}", plan.not_in_force);
    assert!(plan.not_in_force[0].starts_with("http[0].output[1].buffer-size-mb is set, but"));
    assert!(plan.admin.is_none());
}

#[test]
fn a_file_of_the_veepee_fork_loads_unchanged() {
    let plan = file(FORK).plan;
    let door = &plan.listeners[0];
    assert_eq!(
        (door.ping_status, door.health_timeout),
        (200, Duration::from_secs(10))
    );
    assert_eq!(plan.backends[0].endpoints.write, "/write");
    assert_eq!(
        plan.backends[1].endpoints.remote_write,
        "/tenant/api/v1/prom/write"
    );
    assert_eq!(plan.backends[1].endpoints.write_v2, "/tenant/api/v2/write");
    assert_eq!(plan.backends[1].timeout, Duration::from_secs(3600));
    assert_eq!(plan.notes.len(), 1, "{:?}", plan.notes);
    let said = plan.not_in_force.join("\n");
    for word in ["rate-limit", "burst-limit", "filter[0]"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// Key path, a right value, what `check` shows; the file is made around it.
const RIGHT: &str = r#"
cpus                              | "0-2,6"                            | 0-2,6
shutdown-timeout                  | "1m30s"                            | 1m30s
peers                             | ["http://b:9097", "http://c:9097"] | http://b:9097,http://c:9097
admin.bind-addr                   | ":9000"                            | [::]:9000
admin.token                       | "hunter2"                          | (secret)
admin.token-file                  | "/run/secret"                      | (secret)
log.level                         | "debug"                            | debug
log.format                        | "json"                             | json
limits.max-body-size              | "10MiB"                            | 10MiB
limits.max-header-size            | 8192                               | 8KiB
limits.max-connections            | 7                                  | 7
limits.header-timeout             | "1s"                               | 1s
limits.body-timeout               | "1500ms"                           | 1s500ms
limits.idle-timeout               | "1h"                               | 1h
limits.max-inflight               | "1GiB"                             | 1GiB
tuning.poll-spins                 | 0                                  | 0
tuning.read-buffer                | "4KiB"                             | 4KiB
tuning.merge-body                 | "1KiB"                             | 1KiB
tuning.merge-batch                | "1MiB"                             | 1MiB
tuning.merge-links                | 4                                  | 4
tuning.backlog                    | 128                                | 128
tuning.probe-interval             | "5s"                               | 5s
tuning.probe-timeout              | "1s"                               | 1s
tuning.dns-interval               | "1m"                               | 1m
spool.dir                         | "/var/spool/x"                     | /var/spool/x
spool.max-size                    | "10GiB"                            | 10GiB
spool.max-age                     | "168h"                             | 168h
spool.when-full                   | "refuse"                           | refuse
spool.fsync                       | "interval:100ms"                   | interval:100ms
spool.when-all-fail               | "accept"                           | accept
spool.replay-rate                 | "1MB"                              | 1MB
spool.poison-attempts             | 8                                  | 8
spool.poison-after                | "1m"                               | 1m
http.name                         | "door"                             | door
http.bind-addr                    | "[::1]:1"                          | [::1]:1
http.default-retention-policy     | "autogen"                          | autogen
http.default-ping-response        | 200                                | 200
http.rate-limit                   | 5                                  | 5
http.burst-limit                  | 10                                 | 10
http.health-timeout-ms            | 250                                | 250
http.ssl-combined-pem             | "/x.pem"                           | /x.pem
http.ssl-client-ca                | "/ca.pem"                          | /ca.pem
http.mode                         | "balance"                          | balance
http.acks                         | "quorum"                           | quorum
http.users                        | ["hunter2:hunter2"]                | (secret)
http.users-file                   | "/run/secret"                      | (secret)
http.tokens                       | "hunter2"                          | (secret)
http.tokens-file                  | "/run/secret"                      | (secret)
http.output.name                  | "one"                              | one
http.output.type                  | "prometheus"                       | prometheus
http.output.timeout               | "2s"                               | 2s
http.output.skip-tls-verification | true                               | true
http.output.buffer-size-mb        | 100                                | 100
http.output.max-batch-kb          | 512                                | 512
http.output.max-delay-interval    | "10s"                              | 10s
http.output.username              | "jane"                             | jane
http.output.token                 | "hunter2"                          | (secret)
http.output.token-file            | "/run/secret"                      | (secret)
http.output.ca-file               | "/ca.pem"                          | /ca.pem
http.output.client-cert           | "/c.pem"                           | /c.pem
http.output.compress              | true                               | true
http.output.query                 | false                              | false
http.output.write                 | false                              | false
http.output.max-connections       | 8                                  | 8
http.output.merge                 | "auto"                             | auto
http.output.drop-responses        | true                               | true
http.output.endpoints.write       | "/w"                               | /w
http.output.endpoints.write_v2    | "/w"                               | /w
http.output.endpoints.write_v3    | "/w"                               | /w
http.output.endpoints.write_prom  | "/w"                               | /w
http.output.endpoints.ping        | "/w"                               | /w
http.output.endpoints.query       | "/w"                               | /w
udp.name                          | "u"                                | u
udp.bind-addr                     | ":8089"                            | [::]:8089
udp.read-buffer                   | 212992                             | 208KiB
udp.precision                     | "ms"                               | ms
udp.mode                          | "balance"                          | balance
udp.output.name                   | "a"                                | a
udp.output.location               | "http://u:hunter2@h:1/?p=hunter2"                 | http://h:1/
udp.output.mtu                    | 512                                | 512
filter.tag-expression             | "^h"                               | ^h
filter.measurement-expression     | "cpu"                              | cpu
filter.outputs                    | ["a", "b"]                         | a,b
filter.type                       | "x"                                | x
"#;

/// A file that holds one key and what it cannot be without.
fn around(key: &str, value: &str) -> (String, String) {
    let http = "[[http]]\nname = \"h\"\noutput = [{ name = \"n\", location = \"http://h:1\" }, { name = \"m\", location = \"http://i:1\" }]\n";
    let output =
        "[[http]]\nname = \"h\"\n[[http.output]]\nname = \"n\"\nlocation = \"http://h:1\"\n";
    let udp = "[[udp]]\nname = \"u\"\nbind-addr = \":8089\"\n";
    let without = |text: &str, name: &str| -> String {
        text.lines()
            .filter(|line| !line.starts_with(&format!("{name} ")))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let line = format!("{name} = {value}\n");
    let path = |table: &str| format!("{table}.{name}");
    match table {
        "" => (format!("{line}{http}"), key.to_owned()),
        "http" => (format!("{}{line}", without(http, name)), path("http[0]")),
        "http.output" => (
            format!("{}{line}", without(output, name)),
            path("http[0].output[0]"),
        ),
        "http.output.endpoints" => (
            format!("{output}endpoints = {{ {} }}\n", line.trim()),
            path("http[0].output[0].endpoints"),
        ),
        "udp" => (
            format!("{http}{}{line}", without(udp, name)),
            path("udp[0]"),
        ),
        "udp.output" => (
            format!(
                "{http}{udp}[[udp.output]]\n{}{line}",
                without("location = \"h:1\"\n", name)
            ),
            path("udp[0].output[0]"),
        ),
        "filter" => (format!("{http}[[filter]]\n{line}"), path("filter[0]")),
        table => (format!("{http}[{table}]\n{line}"), key.to_owned()),
    }
}

#[test]
fn every_key_takes_a_right_value_from_the_file() {
    for [key, value, shown] in cells(RIGHT) {
        let (text, path) = around(key, value);
        let effective = file(&text);
        let path = path
            .strip_suffix("-file")
            .filter(|_| shown == "(secret)")
            .unwrap_or(&path);
        assert_eq!(
            row(&effective, path),
            (shown, Source::File),
            "{key}\n{text}"
        );
        assert!(!format!("{effective:?}").contains("hunter2"), "{key}");
    }
}

#[test]
fn every_key_that_exists_is_tried() {
    let tried: BTreeSet<&str> = cells(RIGHT).map(|[key, _, _]| key).collect();
    let elsewhere = [
        "http.output",
        "http.output.location",
        "http.output.endpoints",
        "http.output.password",
        "udp.output",
        "http.output.password-file",
    ];
    for (table, keys) in keys::TABLES.iter().filter(|(table, _)| !table.is_empty()) {
        for name in keys::names(keys) {
            let key = format!("{table}{name}");
            assert!(
                tried.contains(key.as_str()) || elsewhere.contains(&key.as_str()),
                "{key}"
            );
        }
    }
}

/// Every key refuses a value of a wrong type, and a text that no key takes.
#[test]
fn every_key_refuses_a_wrong_value_and_says_where() {
    for [key, _, shown] in cells(RIGHT) {
        let (text, path) = around(key, "{ hunter3 = 1 }");
        let problems = load(Some(&text), &[]).expect_err(key);
        let problem = problems
            .iter()
            .find(|problem| problem.at == format!("r.toml: {path}"));
        let problem = problem.unwrap_or_else(|| panic!("{key}: {problems:?}"));
        assert!(
            !problem.want.is_empty() && !problem.found.is_empty(),
            "{key}"
        );
        assert!(
            shown != "(secret)" || !format!("{problems:?}").contains("hunter3"),
            "{key}"
        );
    }
}

/// Key path, a wrong value, what is found, what to write.
const WRONG: &str = r#"
shutdown-timeout            | "10"                   | "10"                                         | a duration with its unit, from 1ms to 1h
shutdown-timeout            | 10                     | 10                                           | a duration with its unit
shutdown-timeout            | "2h"                   | "2h"                                         | from 1ms to 1h
cpus                        | "4"                    | "4"                                          | this process may use 0-3,6
cpus                        | 2                      | 2                                            | "auto"
log.level                   | "loud"                 | "loud"                                       | "error" or "warn" or "info" or "debug"
limits.max-body-size        | "25mb"                 | "25mb"                                       | a size from 1 to 1GiB
limits.max-connections      | 0                      | 0                                            | a whole number from 1 to 1000000
limits.max-connections      | -1                     | -1                                           | a whole number
limits.max-inflight         | "1MB"                  | 1000000 bytes, which one body                | at least 25002048 bytes
tuning.merge-batch          | "1KiB"                 | 1024 bytes, which one body                   | at least 16384 bytes
tuning.read-buffer          | "1MiB"                 | "1MiB"                                       | from 4KiB to 128KiB
spool.fsync                 | "interval:0s"          | "interval:0s"                                | interval:100ms
http.bind-addr              | "relay.example:80"     | "relay.example:80"                           | an IP address and a port
http.bind-addr              | "127.0.0.1:9097"       | 127.0.0.1:9097, where admin.bind-addr        | an address of its own
http.default-ping-response  | 100                    | 100                                          | from 200 to 599
http.default-ping-response  | 600                    | 600                                          | from 0 to 599
http.acks                   | 3                      | 3, and 2 outputs                             | "quorum" or "all"
http.acks                   | 0                      | 0                                            | a number from 1
http.mode                   | "one"                  | "one"                                        | "replicate" or "balance"
http.output.location        | "h:8086"               | "h:8086"                                     | a URL such as
http.output.location        | "http://u:hunter2@h:0" | not shown                                    | a URL such as
http.output.location | "h:1/?p=hunter2" | not shown | a URL such as
peers | ["http://u:hunter2@h"] | not shown | URLs such as
http.output.type            | "influx"               | "influx"                                     | "influxdb"
http.output.name            | "a\nb"                 | a                                            | without control characters
http.output.password        | "hunter2"              | a password without a username                | both, or none
http.output.token           | "hunter2 x"            | characters that a header cannot hold         | visible ASCII
http.output.token           | ""                     | an empty secret                              | leave the key out
http.output.token-file      | "/run/empty"           | an empty secret                              | leave the key out
http.output.token-file      | "/run/none"            | "/run/none", which cannot be read (no such file) | may read
http.output.endpoints.write | "write"                | "write"                                      | a path such as
http.output.endpoints.write | "/a b"                 | "/a b"                                       | a path such as
http.output.endpoints       | "/write"               | a text (not a table)                         | [http.output.endpoints]
udp.output.location         | "h"                    | "h"                                          | host:port
udp.name                    | "h"                    | "h", which http[0].name is too               | a name of its own
"#;

#[test]
fn wrong_values_are_quoted_with_what_to_write() {
    for [key, value, found, want] in cells(WRONG) {
        let (text, path) = around(key, value);
        let problems = load(Some(&text), &[]).expect_err(key);
        let problem = problems.iter().find(|problem| problem.at.ends_with(&path));
        let problem = problem.unwrap_or_else(|| panic!("{key} {value}: {problems:?}"));
        assert!(problem.found.contains(found), "{key} {value}: {problem}");
        assert!(problem.want.contains(want), "{key} {value}: {problem}");
        assert!(
            !format!("{problems:?}").contains("hunter2"),
            "{key} {value}"
        );
    }
}

const TWO: &str = "a=http://127.0.0.1:8086, b=http://127.0.0.1:8087";

#[test]
fn everything_can_be_set_by_variables_alone() {
    let effective = env(&[
        ("RELAY_HTTP_OUTPUTS", TWO),
        ("RELAY_HTTP_TIMEOUT", "3s"),
        ("RELAY_HTTP_MERGE", "auto"),
        ("RELAY_CPUS", "1"),
    ]);
    let plan = &effective.plan;
    assert_eq!(plan.cpus, [1]);
    assert_eq!(plan.listeners[0].bind.to_string(), "127.0.0.1:9096");
    assert_eq!(plan.listeners[0].name, "http://127.0.0.1:9096");
    assert_eq!(
        plan.backends
            .iter()
            .map(|backend| backend.name.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert!(
        plan.backends
            .iter()
            .all(|backend| backend.merge && backend.timeout == Duration::from_secs(3))
    );
    assert_eq!(
        row(&effective, "http[0].output[1].timeout"),
        ("3s", Source::Env)
    );
    assert_eq!(
        row(&effective, "http[0].output[1].location"),
        ("http://127.0.0.1:8087", Source::Env)
    );
    assert_eq!(
        row(&effective, "limits.max-body-size"),
        ("25MB", Source::Default)
    );
    assert!(plan.not_in_force.is_empty() && plan.refused.is_empty() && plan.notes.is_empty());
    let unnamed = env(&[("RELAY_HTTP_OUTPUTS", "http://u:hunter2@h:1/x?a=b")]);
    assert_eq!(unnamed.plan.backends[0].name, "http://h:1/x");
    assert!(!format!("{unnamed:?}").contains("hunter2"));
}

/// Each variable is read, overrides the file, and is named in the problem with a wrong value.
#[test]
fn every_variable_overrides_the_file() {
    for (table, keys) in keys::TABLES {
        for key in keys
            .iter()
            .filter(|key| !key.env.is_empty() && key.name != "output")
        {
            let name = if key.secret {
                format!("{}-file", key.name)
            } else {
                key.name.to_owned()
            };
            let tried = cells(RIGHT).find(|[path, _, _]| *path == format!("{table}{name}"));
            let Some([path, value, shown]) = tried else {
                assert_eq!(key.name, "password");
                continue;
            };
            let plain = value
                .trim_matches('"')
                .replace("[\"", "")
                .replace("\"]", "")
                .replace("\", \"", ",");
            let variable = if key.secret {
                format!("{}_FILE", key.env)
            } else {
                key.env.to_owned()
            };
            let mut vars = vec![
                ("RELAY_HTTP_OUTPUTS", TWO),
                ("RELAY_UDP_OUTPUTS", "a=h:1"),
                ("RELAY_UDP_BIND_ADDR", ":8089"),
            ];
            vars.retain(|(name, _)| *name != variable);
            vars.push((&variable, &plain));
            let effective = env(&vars);
            let row = effective.rows.iter().find(|row| {
                row.source == Source::Env && row.key.ends_with(key.name) && row.value == shown
            });
            assert!(row.is_some(), "{variable}={plain} {:#?}", effective.rows);
            let (text, path) = around(path, value);
            vars.pop();
            vars.retain(|(name, _)| {
                name != &"RELAY_HTTP_OUTPUTS" && !name.starts_with("RELAY_UDP")
                    || path.starts_with("udp")
            });
            vars.push((&variable, "\u{1}"));
            let wrong = load(Some(&text), &vars);
            let is_free = [
                "dir",
                "ssl-combined-pem",
                "ssl-client-ca",
                "ca-file",
                "client-cert",
            ]
            .contains(&key.name);
            assert!(
                is_free
                    || wrong.is_err_and(|problems| problems
                        .iter()
                        .any(|problem| problem.at == variable)),
                "{variable}"
            );
        }
    }
}

#[test]
fn the_environment_replaces_the_first_listener_only() {
    let text = format!(
        "{FORK}\n[[http]]\nname = \"two\"\nbind-addr = \":9999\"\noutput = [{{ name = \"x\", location = \"http://x\" }}]"
    );
    let effective = load(
        Some(&text),
        &[
            ("RELAY_HTTP_OUTPUTS", TWO),
            ("RELAY_HTTP_TIMEOUT", "1s"),
            ("RELAY_HTTP_ACKS", "all"),
        ],
    )
    .unwrap();
    let plan = &effective.plan;
    assert_eq!(
        plan.backends
            .iter()
            .map(|backend| backend.name.as_str())
            .collect::<Vec<_>>(),
        ["a", "b", "x"]
    );
    assert_eq!((plan.listeners[0].acks, plan.listeners[1].acks), (2, 1));
    assert_eq!(plan.backends[1].timeout, Duration::from_secs(1));
    assert_eq!(plan.backends[2].timeout, Duration::from_secs(10));
}

/// What each line of the reading below begins with, and holds.
const ALL: &str = r#"
RELAY_HTPP_OUTPUTS: found a variable that does not exist | write `RELAY_HTTP_OUTPUTS`
r.toml: cpus: found "9"                      | 0-3,6
r.toml: shutdown_timeout: found a key that does not exist | `shutdown-timeout`
r.toml: limits.max-body-size: found "huge"   | a size from
r.toml: limits.max-conections: found a key   | `max-connections`
r.toml: http[0].bind_addr: found a key       | `bind-addr`
r.toml: http[0].acks: found 5                | a number
r.toml: http[0].output[0].location: found "nowhere" | a URL
r.toml: http[0].output[0].timeout: found "10" | a duration
r.toml: http[0].output[1].naem: found a key  | `name`
r.toml: http[0].output[1].location: found nothing | a URL
r.toml: http[1].bind-addr: found nothing     | an address
r.toml: http[1].output: found a number       | [[http.output]]
r.toml: htpp: found a key                    | `http`
RELAY_LOG: found "loud"                      | "info"
"#;

#[test]
fn all_problems_are_found_in_one_reading() {
    let text = r#"
cpus = "9"
shutdown_timeout = "1s"
[limits]
max-body-size = "huge"
max-conections = 3
[[http]]
bind_addr = ":1"
acks = 5
[[http.output]]
location = "nowhere"
timeout = "10"
[[http.output]]
naem = "b"
[[http]]
name = "second"
output = 7
[[htpp]]
"#;
    let problems = load(
        Some(text),
        &[
            ("RELAY_HTPP_OUTPUTS", "x"),
            ("RELAY_LOG", "loud"),
            ("RELAY_SERVICE_HOST", "10.0.0.1"),
            ("HOME", "/"),
        ],
    );
    let problems = problems.unwrap_err();
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for [at, want] in cells(ALL) {
        assert!(
            all.iter()
                .any(|line| line.starts_with(at) && line.contains(want)),
            "{at}: {all:#?}"
        );
    }
    assert_eq!(
        all.iter()
            .filter(|line| line.contains("SERVICE") || line.contains("HOME"))
            .count(),
        0
    );
    assert!(all.len() <= 18, "{all:#?}");
}

#[test]
fn nothing_configured_says_what_to_set() {
    let problems = load(None, &[]).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].at, "RELAY_HTTP_OUTPUTS");
    let none = file("[[http]]\n");
    assert!(
        none.plan.notes[0].contains("no outputs"),
        "{:?}",
        none.plan.notes
    );
    let udp = file("[[udp]]\nbind-addr = \":8089\"");
    assert!(udp.plan.listeners.is_empty() && udp.plan.refused.len() == 1);
}

#[test]
fn syntax_errors_say_line_and_column_and_quote_nothing() {
    for text in [
        "cpus = \"auto\"\n[admin]\ntoken = \"hunter2\n",
        "a = 1\na = 2",
        "[[http]\n",
        "x = hunter2 y",
        "\u{0}",
    ] {
        let problems = load(Some(text), &[]).unwrap_err();
        assert!(problems[0].at.starts_with("r.toml: line "), "{problems:?}");
        assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
    }
    let problems = load(Some("cpus = \"auto\"\nä = = 1"), &[]).unwrap_err();
    assert!(
        problems[0].at.starts_with("r.toml: line 2, column "),
        "{problems:?}"
    );
}

#[test]
fn credentials_become_headers_and_are_never_shown() {
    let outputs = r#"[[http]]
output = [
  { name = "a", location = "http://jane:hunter2@h:1/write" },
  { name = "b", location = "http://h:2", username = "jane", password = "hunter2" },
  { name = "c", location = "http://h:3", token = "hunter2" },
  { name = "d", location = "http://h:4" },
]"#;
    let effective = file(outputs);
    let found: Vec<Option<&str>> = effective
        .plan
        .backends
        .iter()
        .map(|backend| {
            backend
                .authorization
                .as_ref()
                .map(|secret| secret.0.as_str())
        })
        .collect();
    let basic = Some("Basic amFuZTpodW50ZXIy");
    assert_eq!(found, [basic, basic, Some("Token hunter2"), None]);
    let shown = format!("{effective:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("aHVud") && !shown.contains("amFuZTpo"),
        "{shown}"
    );
    let both = outputs.replace("token =", "username = \"x\", token =");
    let problems = load(Some(&both), &[]).unwrap_err();
    assert_eq!(
        (problems[0].at.as_str(), problems[0].found.as_str()),
        ("r.toml: http[0].output[2]", "more than one credential")
    );
    let wrong = load(
        None,
        &[(
            "RELAY_HTTP_OUTPUTS",
            "a=http://u:hun,ter2@h:1,b=http://u:hunter2@h:x",
        )],
    )
    .unwrap_err();
    assert!(
        !format!("{wrong:?}").contains("ter2") && !format!("{wrong:?}").contains("hun"),
        "{wrong:?}"
    );
}

#[test]
fn secrets_come_from_one_place() {
    let twice = [
        ("RELAY_HTTP_OUTPUTS", TWO),
        ("RELAY_ADMIN_TOKEN", "hunter2"),
        ("RELAY_ADMIN_TOKEN_FILE", "/run/secret"),
    ];
    let problems = load(None, &twice).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(
        (problems[0].at.as_str(), problems[0].found.as_str()),
        ("RELAY_ADMIN_TOKEN", "both it and RELAY_ADMIN_TOKEN_FILE")
    );
    let over = load(Some("[admin]\ntoken = \"old\"\n"), &[twice[0], twice[2]]).unwrap();
    assert_eq!(over.plan.admin.unwrap().token.unwrap().0, "hunter2");
}

#[test]
fn what_would_be_unsafe_to_ignore_is_refused() {
    for (key, value) in [
        ("http.ssl-combined-pem", "\"/x\""),
        ("http.ssl-client-ca", "\"/x\""),
        ("http.users", "\"a:b\""),
        ("http.users-file", "\"/run/secret\""),
        ("http.tokens", "[\"a\"]"),
        ("http.output.location", "\"https://h\""),
    ] {
        let plan = file(&around(key, value).0).plan;
        assert_eq!(plan.refused.len(), 1, "{key}: {:?}", plan.refused);
    }
    let plan =
        file("[[http]]\noutput = [{ location = \"https://h\", skip-tls-verification = true }]")
            .plan;
    assert_eq!(
        (
            plan.refused.len(),
            plan.backends[0].port,
            plan.backends[0].host_header.as_str()
        ),
        (2, 443, "h")
    );
    let plan = file(&around("http.output.skip-tls-verification", "true").0).plan;
    assert_eq!((plan.refused.len(), plan.not_in_force.len()), (0, 1));
}

#[test]
fn names_labels_and_acks() {
    let text = r#"
[[http]]
name = "one"
acks = "quorum"
output = [ { name = "a", location = "http://a" }, { name = "b", location = "http://b" },
           { name = "k", location = "http://k", drop-responses = true }, { name = "q", location = "http://q", write = false } ]
[[http]]
name = "two"
bind-addr = ""
acks = "all"
output = [ { name = "a", location = "http://a" }, { location = "http://c/write" } ]
"#;
    let plan = file(text).plan;
    let labels: Vec<&str> = plan
        .backends
        .iter()
        .map(|backend| backend.label.as_str())
        .collect();
    assert_eq!(labels, ["one/a", "b", "k", "q", "two/a", "http://c/write"]);
    assert_eq!((plan.listeners[0].acks, plan.listeners[1].acks), (2, 2));
    assert_eq!(plan.listeners[1].bind.to_string(), "[::]:0");
    assert_eq!(plan.listeners[1].outputs, [BackendId(4), BackendId(5)]);
    let problems = load(
        Some(&text.replace("\"b\"", "\"a\"").replace("\"two\"", "\"one\"")),
        &[],
    )
    .unwrap_err();
    assert_eq!(
        problems
            .iter()
            .map(|problem| problem.at.as_str())
            .collect::<Vec<_>>(),
        ["r.toml: http[0].output[1].name", "http[1].name"]
    );
    let twins = file(
        "[[http]]\noutput = [{ name = \"a\", location = \"http://h/write\" }, { name = \"b\", location = \"http://h\" }]",
    );
    assert!(
        twins.plan.notes[0].contains("same backend"),
        "{:?}",
        twins.plan.notes
    );
}

#[test]
fn too_many_of_anything_is_refused() {
    let outputs: String = (0..65)
        .map(|i| format!("{{ location = \"http://h{i}\" }},"))
        .collect();
    let problems = load(Some(&format!("[[http]]\noutput = [{outputs}]")), &[]).unwrap_err();
    assert_eq!(
        (problems[0].found.as_str(), problems[0].want.as_str()),
        ("65 tables", "at most 64")
    );
    let list: Vec<String> = (0..65).map(|i| format!("http://h{i}")).collect();
    let problems = load(None, &[("RELAY_HTTP_OUTPUTS", &list.join(","))]).unwrap_err();
    assert_eq!(problems[0].found, "65 outputs");
}

/// Any bytes, and any mutation of a right file, are a plan or problems; never a panic.
#[test]
fn no_file_can_panic_the_reader() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut roll = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % bound as u64).unwrap()
    };
    let seeds = [
        ORIGINAL,
        FORK,
        "cpus = \"0-3\"\npeers = [\"http://a\"]\n[limits]\nmax-body-size = \"1MB\"\n",
    ];
    let words = [
        "\"",
        "[[",
        "]",
        "=",
        "{",
        "\n",
        "http",
        "-1",
        "99999999999999999999",
        "1e400",
        "µ",
        "\u{0}",
        "[]",
        "{}",
        "''",
        "@",
        "%",
        "1979-05-27",
    ];
    for turn in 0..4000 {
        let mut text: Vec<char> = seeds[turn % 3].chars().collect();
        for _ in 0..=roll(6) {
            let at = roll(text.len());
            match roll(3) {
                0 => drop(text.remove(at)),
                1 => drop(text.splice(at..at, words[roll(words.len())].chars())),
                _ => text[at] = char::from(u8::try_from(roll(128)).unwrap()),
            }
        }
        let text: String = text.into_iter().collect();
        let variable = keys::variables().nth(roll(60)).unwrap();
        if let Err(problems) = load(Some(&text), &[(&variable, words[roll(words.len())])]) {
            assert!(
                !problems.is_empty() && problems.iter().all(|problem| !problem.want.is_empty()),
                "turn {turn}"
            );
        }
    }
}
