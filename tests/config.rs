//! The configuration as operators write it: every key, both Go dialects, every problem at once.
#![allow(clippy::unwrap_used, clippy::panic)]

use influxdb_relay::config::problem::Problem;
use influxdb_relay::config::section::Source;
use influxdb_relay::config::{Effective, Facts, Input, keys, read};
use influxdb_relay::plan::access::{RatePlan, RatesPlan};
use influxdb_relay::plan::{
    BackendId, BackendPlan, BackendTlsPlan, FilterPlan, Fsync, SpoolPlan, WhenFull,
};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// Of "password", by the reference implementation.
const ARGON: &str =
    "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
const SHA: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn load(file: Option<&str>, env: &[(&str, &str)]) -> Result<Effective, Vec<Problem>> {
    let env: Vec<(String, String)> = env
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let secrets = |path: &str| match path {
        "/run/secret" => Ok("hunter2\n".to_owned()),
        "/run/users" => Ok(format!("# who\n\nhunter2 {ARGON} write=a\n")),
        "/run/tokens" => Ok(format!("hunter2 {SHA} all\n")),
        "/run/empty" => Ok("\n".to_owned()),
        _ => Err("no such file".to_owned()),
    };
    let facts = Facts {
        cpus_allowed: vec![0, 1, 2, 3, 6],
        cpu_quota: None,
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

const MIB: u64 = 1 << 20;

/// Bytes owed at most, bytes of one replayed request, milliseconds between two tries at most.
type Kept = (u64, usize, u128);

/// An output of which nothing is kept, and the defaults.
const NOT_KEPT: Kept = (0, 512 * 1024, 10_000);

fn kept(backend: &BackendPlan) -> Kept {
    (
        backend.owed_bytes_max,
        backend.replay_batch_bytes_max,
        backend.replay_wait_max.as_millis(),
    )
}

/// The spool as the contract's table has it where nothing else is set.
fn spool_in(dir: Option<&str>) -> SpoolPlan {
    SpoolPlan {
        dir: dir.map(PathBuf::from),
        age_max: Duration::from_secs(604_800),
        when_full: WhenFull::DropOldest,
        fsync: Fsync::Every(Duration::from_millis(100)),
        accept_when_all_fail: false,
        replay_bytes_per_second: 0,
        poison_attempts: 8,
        poison_after: Duration::from_secs(60),
        segment_bytes: 8 * MIB,
    }
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
    assert!(plan.not_in_force.is_empty(), "{:#?}", plan.not_in_force);
    let udp = &plan.udp[0];
    assert_eq!(udp.name, "example-udp");
    let outputs = udp.outputs.iter().map(|id| &plan.outputs[id.0]);
    let outputs: Vec<_> = outputs
        .map(|output| (&*output.label, &*output.host, output.port, output.mtu))
        .collect();
    let (one, two) = (
        ("local1", "127.0.0.1", 8089, 512),
        ("local2", "127.0.0.1", 7089, 1024),
    );
    assert_eq!(outputs, [one, two]);
    let kept: Vec<Kept> = plan.backends.iter().map(kept).collect();
    assert_eq!(kept, [NOT_KEPT, (100 * MIB, 50 * 1024, 5_000), NOT_KEPT]);
    assert_eq!(plan.spool, Some(spool_in(None)));
    assert_eq!(plan.notes.len(), 1, "{:#?}", plan.notes);
    assert!(plan.notes[0].contains("in memory only, and lost on a restart"));
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
    assert!(!said.contains("filter"), "{said}");
    assert_eq!(
        plan.backends[0].filter,
        Some(FilterPlan {
            measurements: vec!["bar.*".into()],
            tags: vec!["foo".into()],
            tag_values: Vec::new(),
        })
    );
    assert_eq!(plan.backends[1].filter, None);
    let rates = RatesPlan {
        listener: Some(RatePlan {
            per_second: 5,
            burst: 10,
        }),
        ..RatesPlan::default()
    };
    assert_eq!(door.rates, rates);
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
spool.max-size                    | "5GiB"                             | 5GiB
spool.max-age                     | "24h"                              | 24h
spool.when-full                   | "refuse"                           | refuse
spool.fsync                       | "interval:1500ms"                  | interval:1s500ms
spool.when-all-fail               | "accept"                           | accept
spool.replay-rate                 | "1MB"                              | 1MB
spool.poison-attempts             | 3                                  | 3
spool.poison-after                | "5s"                               | 5s
spool.segment-size                | "16MiB"                            | 16MiB
http.name                         | "door"                             | door
http.bind-addr                    | "[::1]:1"                          | [::1]:1
http.default-retention-policy     | "autogen"                          | autogen
http.default-ping-response        | 200                                | 200
http.rate-limit                   | 5                                  | 5
http.burst-limit                  | 10                                 | 10
http.client-rate-limit            | 6                                  | 6
http.client-burst-limit           | 11                                 | 11
http.user-rate-limit              | 7                                  | 7
http.user-burst-limit             | 12                                 | 12
http.health-timeout-ms            | 250                                | 250
http.ssl-combined-pem             | "/x.pem"                           | /x.pem
http.mode                         | "balance"                          | balance
http.acks                         | "quorum"                           | quorum
http.users                        | ["u $argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc read=*"] | 1 user
http.users-file                   | "/run/users"                       | 1 user
http.tokens                       | "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef all" | 1 token
http.tokens-file                  | "/run/tokens"                      | 1 token
http.output.name                  | "one"                              | one
http.output.type                  | "prometheus"                       | prometheus
http.output.timeout               | "2s"                               | 2s
http.output.skip-tls-verification | true                               | true
http.output.buffer-size-mb        | 100                                | 100
http.output.max-batch-kb          | 64                                 | 64
http.output.max-delay-interval    | "5s"                               | 5s
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
udp.steering                      | "flow"                             | flow
udp.gro                           | true                               | true
udp.batch                         | 32                                 | 32
udp.flush-window                  | "5ms"                              | 5ms
udp.output.name                   | "a"                                | a
udp.output.location               | "http://u:hunter2@h:1/?db=x&p=hunter2"            | http://h:1/
udp.output.mtu                    | 512                                | 512
filter.tag-expression             | "^h"                               | ^h
filter.measurement-expression     | "cpu"                              | cpu
filter.tag-value-expression       | "^(a|b)?$"                         | ^(a|b)?$
filter.outputs                    | ["n", "m"]                         | n,m
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
            .filter(|_| SECRETS.contains(&shown))
            .unwrap_or(&path);
        assert_eq!(
            row(&effective, path),
            (shown, Source::File),
            "{key}\n{text}"
        );
        let debug = format!("{effective:?}").replace("name: \"hunter2\"", "");
        assert!(
            !debug.contains("hunter2") && !debug.contains("bQk8UB"),
            "{key}"
        );
    }
}

/// What `check` shows of secrets.
const SECRETS: [&str; 3] = ["(secret)", "1 user", "1 token"];

#[test]
fn every_key_that_exists_is_tried() {
    let tried: BTreeSet<&str> = cells(RIGHT).map(|[key, _, _]| key).collect();
    let elsewhere = [
        "http.output",
        "http.output.location",
        "http.output.client-key",
        "http.ssl-cert",
        "http.ssl-key",
        "http.ssl-client-ca",
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
            !SECRETS.contains(&shown) || !format!("{problems:?}").contains("hunter3"),
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
spool.dir                   | 7                      | 7                                            | the name of a file
spool.max-size              | 0                      | 0                                            | a size from 64KiB to 1024TiB
spool.max-size              | "1025TiB"              | "1025TiB"                                    | a size from 64KiB to 1024TiB
spool.max-size              | "10gb"                 | "10gb"                                       | a size from 64KiB to 1024TiB
spool.max-age               | "7d"                   | "7d"                                         | a duration with its unit, from 1ms to 87840h
spool.max-age               | "0"                    | "0"                                          | from 1ms to 87840h
spool.max-age               | "87841h"               | "87841h"                                     | from 1ms to 87840h
spool.when-full             | "drop-newest"          | "drop-newest"                                | "drop-oldest" or "refuse"
spool.fsync                 | "interval:0s"          | "interval:0s"                                | from 1ms to 1h, such as "interval:100ms"
spool.fsync                 | "interval:2h"          | "interval:2h"                                | from 1ms to 1h
spool.fsync                 | "interval:"            | "interval:"                                  | "always", "never", or an interval
spool.fsync                 | "100ms"                | "100ms"                                      | such as "interval:100ms"
spool.fsync                 | "Always"               | "Always"                                     | "always"
spool.when-all-fail         | "drop"                 | "drop"                                       | "refuse" or "accept"
spool.replay-rate           | -1                     | -1                                           | a size from 0 to 1TiB
spool.replay-rate           | "2TiB"                 | "2TiB"                                       | a size from 0 to 1TiB
spool.poison-attempts       | 0                      | 0                                            | a whole number from 1 to 1000000
spool.poison-attempts       | 1000001                | 1000001                                      | a whole number from 1 to 1000000
spool.poison-after          | "2h"                   | "2h"                                         | a duration with its unit, from 1ms to 1h
spool.segment-size          | 65535                  | 65535                                        | a size from 64KiB to 1GiB
spool.segment-size          | "1025MiB"              | "1025MiB"                                    | a size from 64KiB to 1GiB
http.output.buffer-size-mb  | -1                     | -1                                           | a whole number from 0 to 1073741824
http.output.buffer-size-mb  | 1073741825             | 1073741825                                   | a whole number from 0 to 1073741824
http.output.buffer-size-mb  | "100MB"                | "100MB"                                      | a whole number
http.output.max-batch-kb    | 65537                  | 65537                                        | a whole number from 0 to 65536
http.output.max-delay-interval | "61m"                  | "61m"                                        | a duration with its unit, from 0s to 1h
http.output.max-delay-interval | 10                     | 10                                           | a duration with its unit
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
filter.tag-expression       | "^(host"               | "^(host": unclosed group, at its character 2 | a regular expression such as
filter.measurement-expression | "a?["                | "a?[": unclosed character class, at its character 3 | a regular expression such as
filter.tag-value-expression | "(?=a)"                | look-around, including look-ahead and look-behind, is not supported | a regular expression
filter.measurement-expression | "\\w{1000}"         | Compiled regex exceeds size limit of 1048576 bytes | a regular expression
filter.measurement-expression | 7                    | 7                                            | a regular expression of at most 4 KiB
filter.outputs              | "n, other"             | "other", which no output over HTTP is called     | one of m, n
filter.outputs              | 7                      | 7                                            | an array of names
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
    assert!(plan.not_in_force.is_empty() && plan.notes.is_empty());
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
                let not_alone = [
                    "password",
                    "client-key",
                    "ssl-cert",
                    "ssl-key",
                    "ssl-client-ca",
                ];
                assert!(not_alone.contains(&key.name), "{}", key.name);
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
            let is_free = ["dir", "ssl-combined-pem", "ca-file", "client-cert"].contains(&key.name);
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

type Change = fn(&mut SpoolPlan);

/// A key, its variable, a right value, and what that changes of the plan.
const CHANGES: [(&str, &str, &str, Change); 14] = [
    ("max-age", "RELAY_SPOOL_MAX_AGE", "1h", |spool| {
        spool.age_max = Duration::from_secs(3600);
    }),
    ("when-full", "RELAY_SPOOL_WHEN_FULL", "refuse", |spool| {
        spool.when_full = WhenFull::Refuse;
    }),
    (
        "when-full",
        "RELAY_SPOOL_WHEN_FULL",
        "drop-oldest",
        |spool| {
            spool.when_full = WhenFull::DropOldest;
        },
    ),
    ("fsync", "RELAY_SPOOL_FSYNC", "always", |spool| {
        spool.fsync = Fsync::Always;
    }),
    ("fsync", "RELAY_SPOOL_FSYNC", "never", |spool| {
        spool.fsync = Fsync::Never;
    }),
    ("fsync", "RELAY_SPOOL_FSYNC", "interval:1ms", |spool| {
        spool.fsync = Fsync::Every(Duration::from_millis(1));
    }),
    (
        "when-all-fail",
        "RELAY_SPOOL_WHEN_ALL_FAIL",
        "accept",
        |spool| spool.accept_when_all_fail = true,
    ),
    (
        "when-all-fail",
        "RELAY_SPOOL_WHEN_ALL_FAIL",
        "refuse",
        |spool| spool.accept_when_all_fail = false,
    ),
    ("replay-rate", "RELAY_SPOOL_REPLAY_RATE", "1MB", |spool| {
        spool.replay_bytes_per_second = 1_000_000;
    }),
    (
        "poison-attempts",
        "RELAY_SPOOL_POISON_ATTEMPTS",
        "3",
        |spool| spool.poison_attempts = 3,
    ),
    ("poison-after", "RELAY_SPOOL_POISON_AFTER", "5s", |spool| {
        spool.poison_after = Duration::from_secs(5);
    }),
    (
        "segment-size",
        "RELAY_SPOOL_SEGMENT_SIZE",
        "64KiB",
        |spool| spool.segment_bytes = 65_536,
    ),
    (
        "segment-size",
        "RELAY_SPOOL_SEGMENT_SIZE",
        "1GiB",
        |spool| {
            spool.segment_bytes = 1 << 30;
        },
    ),
    ("dir", "RELAY_SPOOL_DIR", "/other", |spool| {
        spool.dir = Some(PathBuf::from("/other"));
    }),
];

#[test]
fn each_spool_key_changes_one_thing() {
    for (key, variable, value, change) in CHANGES {
        let mut want = spool_in(Some("/d"));
        change(&mut want);
        let (dir, first) = match key {
            "dir" => ("", ("RELAY_LOG", "info")),
            _ => ("dir = \"/d\"\n", ("RELAY_SPOOL_DIR", "/d")),
        };
        let quoted = match key {
            "poison-attempts" => value.to_owned(),
            _ => format!("{value:?}"),
        };
        let output = "[[http]]\noutput = [{ location = \"http://h\" }]\n";
        let in_file = file(&format!("{output}[spool]\n{dir}{key} = {quoted}\n"));
        assert_eq!(in_file.plan.spool.as_ref(), Some(&want), "{key} = {value}");
        let in_env = env(&[("RELAY_HTTP_OUTPUTS", TWO), first, (variable, value)]);
        assert_eq!(
            in_env.plan.spool.as_ref(),
            Some(&want),
            "{variable}={value}"
        );
        for effective in [in_file, in_env] {
            let plan = effective.plan;
            assert!(
                plan.not_in_force.is_empty() && plan.notes.is_empty(),
                "{key}: {plan:?}"
            );
        }
    }
}

#[test]
fn what_check_shows_of_the_spool_by_default() {
    let effective = env(&[("RELAY_HTTP_OUTPUTS", TWO)]);
    assert_eq!(effective.plan.spool, None);
    assert_eq!(kept(&effective.plan.backends[0]), NOT_KEPT);
    for (key, shown) in [
        ("spool.dir", "none"),
        ("spool.max-size", "10GiB"),
        ("spool.max-age", "168h"),
        ("spool.when-full", "drop-oldest"),
        ("spool.fsync", "interval:100ms"),
        ("spool.when-all-fail", "refuse"),
        ("spool.replay-rate", "0"),
        ("spool.poison-attempts", "8"),
        ("spool.poison-after", "1m"),
        ("spool.segment-size", "8MiB"),
        ("http[0].output[0].buffer-size-mb", "0"),
        ("http[0].output[0].max-batch-kb", "512"),
        ("http[0].output[0].max-delay-interval", "10s"),
    ] {
        assert_eq!(row(&effective, key), (shown, Source::Default), "{key}");
    }
}

/// What `[spool]` says, what the output says; bytes that may be owed, whether there is a spool;
/// what each note holds.
const OWED: &str = r#"
                                     |                                                |            0 | none   |
                                     | buffer-size-mb = 0                             |            0 | none   |
                                     | buffer-size-mb = 3                             |      3145728 | memory | in memory only
dir = ""                             | buffer-size-mb = 3                             |      3145728 | memory | in memory only
                                     | buffer-size-mb = 3, drop-responses = true      |      3145728 | memory | in memory only
                                     | buffer-size-mb = 3, write = false              |            0 | none   | output[0] takes no writes
dir = "/d"                           |                                                |  10737418240 | /d     |
dir = "/d", max-size = "64KiB"       |                                                |        65536 | /d     |
dir = "/d", max-size = "64KiB"       | buffer-size-mb = 0                             |        65536 | /d     |
dir = "/d", max-size = "64KiB"       | buffer-size-mb = 3                             |      3145728 | /d     |
dir = "/d"                           | buffer-size-mb = 3, drop-responses = true      |      3145728 | /d     |
dir = "/d"                           | drop-responses = true                          |  10737418240 | /d     |
dir = "/d"                           | write = false                                  |            0 | /d     |
dir = "/d"                           | buffer-size-mb = 3, write = false              |            0 | /d     | output[0] takes no writes
max-size = "1GiB"                    |                                                |            0 | none   | spool.max-size is set, but neither spool.dir nor a buffer-size-mb is
max-age = "1h"                       |                                                |            0 | none   | spool.max-age is set, but neither
max-age = "1h", max-size = "1GiB"    | buffer-size-mb = 3                             |      3145728 | memory | spool.max-size is set, but spool.dir is not; in memory only
fsync = "always"                     | buffer-size-mb = 3                             |      3145728 | memory | spool.fsync is set, but spool.dir is not; in memory only
"#;

#[test]
fn what_may_be_owed_and_where_it_is_kept() {
    let lines = OWED.trim_matches('\n').lines();
    for line in lines {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [spool, output, owed, place, notes] = cells[..] else {
            panic!("{line}");
        };
        let comma = if output.is_empty() { "" } else { "," };
        let plan = file(&format!(
            "spool = {{ {spool} }}\n[[http]]\noutput = [{{ location = \"http://h\"{comma} {output} }}, {{ location = \"http://other\", write = false }}]"
        ))
        .plan;
        let owed_by_each: Vec<u64> = plan.backends.iter().map(|one| one.owed_bytes_max).collect();
        assert_eq!(owed_by_each, [owed.parse::<u64>().unwrap(), 0], "{line}");
        let found = match &plan.spool {
            None => "none",
            Some(SpoolPlan { dir: None, .. }) => "memory",
            Some(SpoolPlan { dir: Some(dir), .. }) => dir.to_str().unwrap(),
        };
        assert_eq!(found, place, "{line}");
        let notes: Vec<&str> = notes.split("; ").filter(|note| !note.is_empty()).collect();
        let said: Vec<&String> = plan
            .notes
            .iter()
            .filter(|note| !note.contains("no write succeeds"))
            .collect();
        assert_eq!(said.len(), notes.len(), "{line}: {said:?}");
        for (said, note) in said.iter().zip(notes) {
            assert!(said.contains(note), "{line}: {said}");
        }
        assert!(plan.not_in_force.is_empty(), "{line}");
    }
}

#[test]
fn an_empty_variable_turns_the_spool_of_the_file_off() {
    let text = "[spool]\ndir = \"/d\"\n[[http]]\noutput = [{ location = \"http://h\" }]";
    assert_eq!(file(text).plan.spool, Some(spool_in(Some("/d"))));
    let off = load(Some(text), &[("RELAY_SPOOL_DIR", "")]).unwrap();
    assert_eq!(off.plan.spool, None);
    assert_eq!(kept(&off.plan.backends[0]), NOT_KEPT);
    assert_eq!(row(&off, "spool.dir"), ("", Source::Env));
}

/// `max-batch-kb`, `max-delay-interval`; what `check` shows of both; bytes, milliseconds, notes.
const REPLAYED: &str = r#"
0     | 0     | 512   | 10s   |   524288 |   10000 | 0
0     | 0s    | 512   | 10s   |   524288 |   10000 | 0
1     | 1ns   | 1     | 500ms |     1024 |     500 | 1
50    | 499ms | 50    | 500ms |    51200 |     500 | 1
50    | 500ms | 50    | 500ms |    51200 |     500 | 0
65536 | 1h    | 65536 | 1h    | 67108864 | 3600000 | 0
"#;

#[test]
fn how_an_output_is_replayed() {
    let text = "[spool]\ndir = \"/d\"\n[[http]]\noutput = [{ location = \"http://a\", BOTH }, { location = \"http://b\", BOTH }]";
    for [batch, delay, batch_shown, delay_shown, bytes, millis, notes] in cells(REPLAYED) {
        let both = format!("max-batch-kb = {batch}, max-delay-interval = {delay:?}");
        let in_file = file(&text.replace("BOTH", &both));
        let variables = [
            ("RELAY_HTTP_MAX_BATCH_KB", batch),
            ("RELAY_HTTP_MAX_DELAY_INTERVAL", delay),
            ("RELAY_HTTP_BUFFER_SIZE_MB", "7"),
        ];
        let in_env = load(Some(&text.replace(", BOTH", "")), &variables).unwrap();
        let notes: usize = notes.parse().unwrap();
        for (effective, source, owed, notes) in [
            (in_file, Source::File, 10 * 1024 * MIB, 2 * notes), // one for each output
            (in_env, Source::Env, 7 * MIB, notes),
        ] {
            for (i, backend) in effective.plan.backends.iter().enumerate() {
                let want = (owed, bytes.parse().unwrap(), millis.parse().unwrap());
                assert_eq!(kept(backend), want, "{both} {source}");
                let shown =
                    |name| row(&effective, &format!("http[0].output[{i}].{name}")).to_owned();
                assert_eq!(shown("max-batch-kb"), (batch_shown, source));
                assert_eq!(shown("max-delay-interval"), (delay_shown, source));
            }
            let said = &effective.plan.notes;
            assert_eq!(said.len(), notes, "{said:?}");
            for note in said {
                assert!(
                    note.ends_with(&format!(
                        "is {delay}, and 500ms is in force, the least there is"
                    )),
                    "{note}"
                );
            }
        }
    }
}

#[test]
fn the_environment_replaces_the_first_listener_only() {
    let unfiltered = FORK.split("[[filter]]").next().unwrap();
    let text = format!(
        "{unfiltered}\n[[http]]\nname = \"two\"\nbind-addr = \":9999\"\noutput = [{{ name = \"x\", location = \"http://x\" }}]"
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

/// Two doors with an output `a` each, one that balances, and UDP.
const DOORS: &str = r#"
[[http]]
name = "one"
output = [{ name = "alpha", location = "http://h:1" }, { name = "b", location = "http://h:2" }, { location = "http://h:3" }]
[[http]]
name = "two"
bind-addr = ":2"
output = [{ name = "alpha", location = "http://h:1" }, { name = "c", location = "http://h:4" }]
[[http]]
name = "three"
bind-addr = ":3"
mode = "balance"
output = [{ name = "relay", location = "http://h:5" }]
[[udp]]
bind-addr = ":4"
output = [{ name = "b", location = "h:5" }, { name = "u", location = "h:6" }, { name = "v", location = "http://h:7?db=x" }]
"#;

fn some_filter(texts: [&[&str]; 3]) -> Option<FilterPlan> {
    let [measurements, tags, tag_values] =
        texts.map(|texts| texts.iter().map(|&text| text.to_owned()).collect());
    Some(FilterPlan {
        measurements,
        tags,
        tag_values,
    })
}

#[test]
fn filters_go_to_outputs_by_name_in_every_listener() {
    let effective = file(&format!(
        r#"{DOORS}
[[filter]]
measurement-expression = "^x"
outputs = ["alpha", "c"]
[[filter]]
measurement-expression = "^a"
tag-expression = "^h"
tag-value-expression = ""
outputs = ["http://h:3", "alpha", "c"]
[[filter]]
measurement-expression = "^x"
tag-value-expression = "v"
outputs = "c"
[[filter]]
tag-expression = ""
outputs = ["b"]
"#
    ));
    let plan = &effective.plan;
    let both = some_filter([&["^a", "^x"], &["^h"], &[]]);
    let filters: Vec<_> = plan
        .backends
        .iter()
        .map(|backend| (&*backend.label, backend.filter.clone()))
        .collect();
    assert_eq!(
        filters,
        [
            ("one/alpha", both.clone()),
            ("b", None),
            ("http://h:3", some_filter([&["^a"], &["^h"], &[]])),
            ("two/alpha", both),
            ("c", some_filter([&["^a", "^x"], &["^h"], &["v"]])),
            ("relay", None),
            ("v", None),
        ]
    );
    assert_eq!(
        row(&effective, "filter[1].measurement-expression"),
        ("^a", Source::File)
    );
    assert_eq!(
        row(&effective, "filter[0].tag-expression"),
        ("none", Source::Default)
    );
    let said = plan.notes.iter().filter(|note| note.contains("filter"));
    let said: Vec<_> = said.collect();
    assert_eq!(
        said,
        [
            "filter[3].outputs names \"b\", which a UDP listener has too: points that come by UDP are not filtered"
        ]
    );
    assert!(plan.not_in_force.is_empty(), "{:?}", plan.not_in_force);
}

#[test]
fn a_filter_that_holds_for_none_says_so() {
    let said = |outputs: &str| {
        let text = format!("{DOORS}\n[[filter]]\nmeasurement-expression = \"^x\"\n{outputs}\n");
        let plan = file(&text).plan;
        assert!(plan.backends.iter().all(|backend| backend.filter.is_none()));
        plan.not_in_force
    };
    for name in ["u", "v"] {
        let said = said(&format!("outputs = [\"{name}\"]"));
        let right = format!(
            "filter[0].outputs names \"{name}\", which only a UDP listener has: points that come by UDP are not filtered"
        );
        assert_eq!(said, [right]);
    }
    for outputs in ["", "outputs = []"] {
        assert_eq!(
            said(outputs),
            ["filter[0] names no outputs: it holds for none"]
        );
    }
}

#[test]
fn a_filter_of_nobody_and_one_that_would_lose_by_chance_are_refused() {
    let problem = |name: &str| {
        let text = format!("{DOORS}\n[[filter]]\noutputs = [\"{name}\"]\n");
        let problems = load(Some(&text), &[]).expect_err(name);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].to_string()
    };
    assert_eq!(
        problem("alhpa"),
        "r.toml: filter[0].outputs: found \"alhpa\", which no output over HTTP is called; write `alpha`, or remove it"
    );
    assert_eq!(
        problem("another"),
        "r.toml: filter[0].outputs: found \"another\", which no output over HTTP is called; write one of alpha, b, c, http://h:3, relay"
    );
    assert!(problem("relay").contains("an output of \"three\", whose mode is \"balance\""));
    // A variable that puts other outputs in the place of the file's leaves no filter behind unseen.
    let text = format!("{DOORS}\n[[filter]]\noutputs = [\"b\"]\n")
        .replace("name = \"b\", location = \"h:5\"", "location = \"h:5\"");
    assert!(load(Some(&text), &[]).is_ok());
    assert!(load(Some(&text), &[("RELAY_HTTP_OUTPUTS", "z=http://h:1")]).is_err());
    let udp_only = "[[udp]]\nbind-addr = \":4\"\n[[filter]]\noutputs = [\"x\"]\n";
    let problems = load(Some(udp_only), &[]).unwrap_err();
    assert_eq!(
        problems[0].want,
        "no filter, as there is no output over HTTP"
    );
    let many = format!("{DOORS}\n{}", "[[filter]]\n".repeat(33));
    assert_eq!(load(Some(&many), &[]).unwrap_err()[0].want, "at most 32");
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
    assert!(udp.plan.listeners.is_empty());
    assert!(
        udp.plan.notes[0].contains("no outputs"),
        "{:?}",
        udp.plan.notes
    );
    let env = load(
        None,
        &[
            ("RELAY_UDP_BIND_ADDR", ":8089"),
            ("RELAY_UDP_OUTPUTS", "a=h:1"),
        ],
    )
    .unwrap();
    assert_eq!(
        (
            env.plan.listeners.len(),
            env.plan.udp.len(),
            env.plan.outputs.len()
        ),
        (0, 1, 1)
    );
}

#[test]
fn outputs_of_udp_go_by_their_location() {
    let text = "[[udp]]\nbind-addr = \":8089\"\nprecision = \"ms\"\noutput = [
        { name = \"a\", location = \"[::1]:8089\", mtu = 0 },
        { location = \"host.example:8090\", mtu = 512 },
        { name = \"c\", location = \"http://u:hunter2@h:8086/?db=x&rp=y\" },
        { name = \"d\", location = \"http://i/write?db=x&rp=y\" },
        { name = \"e\", location = \"http://j:1?db=z\" },
    ]\n";
    let effective = file(text);
    let plan = &effective.plan;
    let outputs = plan
        .outputs
        .iter()
        .map(|output| (&*output.label, &*output.host, output.port, output.mtu));
    assert_eq!(
        outputs.collect::<Vec<_>>(),
        [
            ("a", "::1", 8089, 1024),
            ("host.example:8090", "host.example", 8090, 512)
        ]
    );
    let carried = plan.udp[0].carried.iter();
    let carried: Vec<_> = carried
        .map(|carried| (&*carried.query.0, carried.outputs.len()))
        .collect();
    assert_eq!(
        carried,
        [("db=x&rp=y&precision=ms", 2), ("db=z&precision=ms", 1)]
    );
    let backends = plan
        .backends
        .iter()
        .map(|plan| (&*plan.label, &*plan.endpoints.write, plan.port));
    assert_eq!(
        backends.collect::<Vec<_>>(),
        [
            ("c", "/write", 8086),
            ("d", "/write", 80),
            ("e", "/write", 1)
        ]
    );
    assert!(
        plan.backends[0].authorization.is_some() && !format!("{effective:?}").contains("hunter2")
    );
    // Each of them is a door of the spool; with balance, each output is one.
    let doors = |plan: &influxdb_relay::plan::Plan| {
        plan.doors()
            .map(|(outputs, _)| outputs.len())
            .collect::<Vec<_>>()
    };
    assert_eq!(doors(plan), [2, 1]);
    let balance = file(&text.replace("precision = \"ms\"", "mode = \"balance\""));
    assert_eq!(doors(&balance.plan), [1, 1, 1]);
    for (location, at) in [
        ("http://h:1", "a URL without db"),
        ("http://h:1/?db=", "a URL without db"),
        ("http://h:1/?db=x&precision=s", "a precision in the query"),
    ] {
        let text =
            format!("[[udp]]\nbind-addr = \":1\"\noutput = [{{ location = \"{location}\" }}]\n");
        let problems = load(Some(&text), &[]).unwrap_err();
        assert_eq!((problems.len(), &*problems[0].found), (1, at), "{location}");
    }
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

/// Files of a listener, and what comes of them.
const DOOR_FILES: &str = r#"
ssl-combined-pem = "/x"                                     | /x /x -
ssl-combined-pem = "/x"; ssl-client-ca = "/ca"              | /x /x /ca
ssl-cert = "/c"; ssl-key = "/k"                             | /c /k -
ssl-cert = "/c"; ssl-key = "/k"; ssl-client-ca = "/ca"      | /c /k /ca
ssl-combined-pem = ""; ssl-cert = ""                        | none
ssl-client-ca = "/ca"                                       | ssl-client-ca: a client CA, but no certificate
ssl-cert = "/c"                                             | ssl-cert: a certificate without its key
ssl-key = "/k"; ssl-client-ca = "/ca"                       | ssl-key: a key without its certificate
ssl-combined-pem = "/x"; ssl-cert = "/c"; ssl-key = "/k"    | ssl-combined-pem: ssl-cert or ssl-key beside it
"#;

#[test]
fn files_of_a_listener_belong_together() {
    for [keys, outcome] in cells(DOOR_FILES) {
        let lines = keys.replace("; ", "\n");
        let text = format!("[[http]]\n{lines}\noutput = [{{ location = \"http://h\" }}]\n");
        let vars: Vec<(String, String)> = keys
            .split("; ")
            .map(|pair| {
                let (key, value) = pair.split_once(" = ").unwrap();
                let variable = format!("RELAY_HTTP_{}", key.to_uppercase().replace('-', "_"));
                (variable, value.trim_matches('"').to_owned())
            })
            .chain([("RELAY_HTTP_OUTPUTS".to_owned(), TWO.to_owned())])
            .collect();
        let vars: Vec<(&str, &str)> = vars.iter().map(|(a, b)| (&**a, &**b)).collect();
        for read in [load(Some(&text), &[]), load(None, &vars)] {
            let found = match read {
                Ok(effective) => {
                    let door = &effective.plan.listeners[0];
                    let scheme = if door.tls.is_some() { "https" } else { "http" };
                    assert_eq!(door.name, format!("{scheme}://127.0.0.1:9096"), "{keys}");
                    door.tls.as_ref().map_or_else(
                        || "none".to_owned(),
                        |tls| {
                            let ca = tls.client_ca.as_ref();
                            let ca = ca
                                .map_or_else(|| "-".to_owned(), |path| path.display().to_string());
                            format!("{} {} {ca}", tls.cert.display(), tls.key.display())
                        },
                    )
                }
                Err(problems) => {
                    assert_eq!(problems.len(), 1, "{keys}: {problems:?}");
                    let at = problems[0].at.to_lowercase().replace('_', "-");
                    let key = outcome.split(':').next().unwrap();
                    assert!(at.ends_with(key), "{keys}: {at}");
                    format!("{key}: {}", problems[0].found)
                }
            };
            assert!(found.starts_with(outcome), "{keys}: {found}");
        }
    }
}

#[test]
fn an_https_output_has_its_port_its_files_and_its_warnings() {
    let output = |more: &str| {
        let text =
            format!("[[http]]\noutput = [{{ name = \"n\", location = \"https://h\"{more} }}]");
        load(Some(&text), &[])
    };
    let plan = output("").unwrap().plan;
    let backend = &plan.backends[0];
    assert_eq!((backend.port, &*backend.host_header), (443, "h"));
    assert_eq!(backend.tls, Some(BackendTlsPlan::default()));
    assert_eq!((plan.notes.len(), plan.not_in_force.len()), (0, 0));

    let files = ", ca-file = \"/a\", client-cert = \"/c\", client-key = \"/k\"";
    let tls = output(files).unwrap().plan.backends[0].tls.clone().unwrap();
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!(
        (
            tls.ca_file,
            tls.client_cert,
            tls.client_key,
            tls.skip_verification
        ),
        (path("/a"), path("/c"), path("/k"), false)
    );
    let problems = output(", client-key = \"/k\"").unwrap_err();
    assert!(
        problems[0].to_string().contains("client-cert with it"),
        "{problems:?}"
    );

    let plan = output(", skip-tls-verification = true, ca-file = \"/a\"")
        .unwrap()
        .plan;
    assert!(plan.backends[0].tls.as_ref().unwrap().skip_verification);
    assert!(
        plan.notes[0].contains("whoever answers"),
        "{:?}",
        plan.notes
    );
    assert_eq!(plan.not_in_force.len(), 1, "{:?}", plan.not_in_force);

    for (key, value) in [
        ("skip-tls-verification", "true"),
        ("ca-file", "\"/a\""),
        ("client-cert", "\"/a\""),
    ] {
        let plan = file(&around(&format!("http.output.{key}"), value).0).plan;
        let said = &plan.not_in_force;
        assert!(
            said.len() == 1 && said[0].contains("not https://"),
            "{key}: {said:?}"
        );
        assert_eq!(plan.backends[0].tls, None);
    }
    let vars = [
        ("RELAY_HTTP_OUTPUTS", "a=https://h,b=https://i:1"),
        ("RELAY_HTTP_CLIENT_CERT", "/c"),
        ("RELAY_HTTP_CLIENT_KEY", "/k"),
    ];
    let plan = env(&vars).plan;
    assert!(plan.backends.iter().all(|backend| {
        backend
            .tls
            .as_ref()
            .is_some_and(|tls| tls.client_key == path("/k"))
    }));
}

#[test]
fn peers_and_udp_outputs_may_be_https() {
    let text = format!(
        "peers = [\"https://a\", \"http://b:1\"]\n{}",
        around("udp.output.location", "\"https://h/?db=x\"").0
    );
    let plan = file(&text).plan;
    assert_eq!(
        plan.peers
            .iter()
            .map(|peer| (peer.tls, peer.port))
            .collect::<Vec<_>>(),
        [(true, 443), (false, 1)]
    );
    let carried = plan.backends.last().unwrap();
    assert_eq!(
        (carried.tls.clone(), carried.port),
        (Some(BackendTlsPlan::default()), 443)
    );
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
