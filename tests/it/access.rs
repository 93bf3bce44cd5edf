//! Who may do what: what clients hear, what backends are sent, what nobody is shown.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::backend::{Backend, status};
use crate::client::{Answer, Client, ask, until, write};
use crate::relay::Relay;

/// Of "password", by the reference implementation; cheap, as tests are many.
const HASH: &str =
    "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
const VERIFICATIONS: &str = "relay_access_verifications_total";

fn basic(user: &str, password: &str) -> String {
    let pair = STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {pair}\r\n")
}

/// What `influxdb-relay hash` prints.
fn hash(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"))
        .arg("hash")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A hash of "password" that takes some milliseconds, so that a queue can be filled, and emptied again.
fn slow_hash() -> String {
    let (salt, mut out) = (b"0123456789abcdef", [0; 32]);
    let params = argon2::Params::new(8192, 1, 1, None).unwrap();
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(b"password", salt, &mut out)
        .unwrap();
    let (salt, out) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(out));
    format!("$argon2id$v=19$m=8192,t=1,p=1${salt}${out}")
}

/// A token, and its line.
fn new_token(arguments: &[&str]) -> (String, String) {
    let said = hash(&[&["--token"], arguments].concat(), "");
    let (token, line) = said.split_once('\n').unwrap();
    (token.to_owned(), line.to_owned())
}

/// A relay on one shard in front of one backend, with these lists.
fn guarded(users: &str, tokens: &str, more: &[(&str, &str)]) -> (Backend, Relay) {
    let backend = Backend::new(Duration::ZERO, status(200, "", "{\"results\":[]}"));
    let mut env = vec![("RELAY_CPUS", "0")];
    for (name, list) in [("RELAY_HTTP_USERS", users), ("RELAY_HTTP_TOKENS", tokens)] {
        if !list.is_empty() {
            env.push((name, list));
        }
    }
    env.extend(more);
    let relay = Relay::start(&[("one", &backend.address)], &env);
    (backend, relay)
}

fn post(relay: &Relay, target: &str, headers: &str) -> Answer {
    ask(&relay.http, "POST", target, headers, b"m v=1 1\n")
}

fn is_401(answer: &Answer, words: &str) {
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.body, format!("{{\"error\":\"{words}\"}}\n"));
    let challenge = answer.header("www-authenticate");
    assert_eq!(challenge, Some("Basic realm=\"InfluxDB\""));
}

#[test]
fn each_way_to_say_who_one_is() {
    let (token, line) = new_token(&["ci", "write=x"]);
    let users = format!("jane {HASH} all\n");
    let tokens = format!("{line}\nslow {HASH} write=x\n");
    let (backend, relay) = guarded(&users, &tokens, &[]);
    let jane = basic("jane", "password");
    for (target, headers) in [
        ("/write?db=x", jane.as_str()),
        ("/write?db=x&u=jane&p=password", ""),
        ("/write?db=x&u=jane&p=password", &basic("jane", "wrong")),
        ("/write?db=x&u=jane&p=", &jane),
        ("/write?db=x", "Authorization: Token jane:password\r\n"),
        ("/write?db=x", &format!("Authorization: Token {token}\r\n")),
        ("/write?db=x", &format!("Authorization: Bearer {token}\r\n")),
        ("/write?db=x", "Authorization: Bearer password\r\n"),
        ("/query?db=x&q=SHOW+SERIES", &jane),
    ] {
        let answer = post(&relay, target, headers);
        assert!(answer.status < 300, "{target} {headers}: {answer:?}");
    }
    assert_eq!(backend.seen().len(), 9);
}

#[test]
fn who_is_nobody_hears_it_in_influxds_words_and_reaches_nobody() {
    let (token, line) = new_token(&["ci", "write=x"]);
    let users = format!("jane {HASH} all\n");
    let tokens = format!("{line}\nslow {HASH} write=x\n");
    let (backend, relay) = guarded(&users, &tokens, &[]);
    let jane = basic("jane", "password");
    for (target, headers, words) in [
        (
            "/write?db=x",
            "",
            "unable to parse authentication credentials",
        ),
        (
            "/query?q=SHOW+USERS",
            "",
            "unable to parse authentication credentials",
        ),
        ("/write", "", "unable to parse authentication credentials"),
        (
            "/write?db=x",
            "Authorization: Basic !!\r\n",
            "unable to parse authentication credentials",
        ),
        (
            "/write?db=x&u=jane",
            "",
            "unable to parse authentication credentials",
        ),
        ("/write?db=x", &basic("", "password"), "username required"),
        (
            "/write?db=x",
            &basic("jane", "Password"),
            "authorization failed",
        ),
        ("/write?db=x", &basic("jane", ""), "authorization failed"),
        (
            "/write?db=x",
            &basic("john", "password"),
            "authorization failed",
        ),
        (
            "/write?db=x",
            &basic("slow", "password"),
            "authorization failed",
        ),
        ("/write", &basic("john", "password"), "authorization failed"),
        ("/write?db=x&u=jane&p=wrong", &jane, "authorization failed"),
        (
            "/write?db=x",
            &format!("Authorization: Bearer {token}x\r\n"),
            "authorization failed",
        ),
        (
            "/api/v2/write?bucket=x",
            "Authorization: Token jane:wrong\r\n",
            "authorization failed",
        ),
        (
            "/api/v1/write",
            &basic("jane", "wrong"),
            "authorization failed",
        ),
        (
            "/api/v1/query?query=up",
            &basic("jane", "wrong"),
            "authorization failed",
        ),
    ] {
        is_401(&post(&relay, target, headers), words);
    }
    assert!(backend.seen().is_empty());
}

#[test]
fn what_is_no_write_and_no_query_is_open_to_all() {
    let (_backend, relay) = guarded(&format!("jane {HASH} all"), "", &[]);
    let jane = basic("jane", "password");
    let nodb = post(&relay, "/write", &jane);
    assert_eq!(
        (nodb.status, nodb.body.as_str()),
        (400, "{\"error\":\"database is required\"}\n")
    );
    for path in ["/ping", "/health", "/ready", "/status"] {
        assert!(
            ask(&relay.http, "GET", path, "", b"").status < 300,
            "{path}"
        );
    }
    assert_eq!(ask(&relay.http, "OPTIONS", "/write", "", b"").status, 204);
    assert_eq!(
        ask(&relay.http, "POST", "/admin/flush", &jane, b"").status,
        403
    );
}

#[test]
fn a_form_in_the_body_lets_in_nobody() {
    let (_backend, relay) = guarded(&format!("jane {HASH} all"), "", &[]);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let body = b"u=jane&p=password&q=SHOW+DATABASES";
    let answer = ask(&relay.http, "POST", "/query", form, body);
    is_401(&answer, "unable to parse authentication credentials");
}

/// Who, what they send, what they hear.
const RIGHTS: &str = "
        w      | POST /write?db=a                               | 200
        w      | POST /write?db=b&rp=x                          | 200
        w      | POST /write?db=%61                             | 200
        w      | POST /write?db=c                               | 403
        w      | POST /write?db=A                               | 403
        w      | POST /write?db=a&db=c                          | 403
        w      | POST /write?db=c&db=a                          | 403
        w      | POST /api/v2/write?bucket=a/rp                 | 200
        w      | POST /api/v2/write?bucket=a%2Frp               | 200
        w      | POST /api/v2/write?bucket=c/a                  | 403
        w      | POST /api/v2/write?bucket=a&bucket=c           | 403
        w      | POST /api/v2/write?db=a                        | 403
        w      | POST /api/v3/write_lp?db=a                     | 200
        w      | POST /api/v3/write_lp?db=c                     | 403
        w      | POST /api/v1/prom/write?db=a                   | 200
        w      | POST /api/v1/prom/write?db=c                   | 403
        w      | POST /api/v1/prom/write?db=c;db=a              | 403
        w      | POST /api/v1/write                             | 403
        all    | POST /api/v1/write                             | 200
        adm    | POST /write?db=a                               | 200
        r      | POST /write?db=a                               | 403
        w      | GET /query?db=a&q=SELECT+*+FROM+m              | 403
        r      | GET /query?db=a&q=SELECT+*+FROM+m              | 200
        r      | GET /query?q=SELECT+*+FROM+m                   | 403
        r      | GET /query?db=a&db=a&q=SELECT+*+FROM+m         | 403
        r      | GET /query?db=b&q=SELECT+*+FROM+m              | 403
        r      | GET /query?db=a&q=SELECT+*+FROM+b..m           | 403
        r      | GET /query?db=a&q=SELECT+*+INTO+n+FROM+m       | 403
        r      | GET /query?db=a&q=SHOW+MEASUREMENTS            | 200
        r      | GET /query?db=b&q=SHOW+MEASUREMENTS+ON+a       | 200
        r      | GET /query?db=a&q=SHOW+MEASUREMENTS+ON+b       | 403
        r      | GET /query?db=a&q=SHOW+DATABASES               | 403
        r      | GET /query?db=a&q=SHOW+USERS                   | 403
        r      | GET /query?db=a&q=DROP+MEASUREMENT+m           | 403
        r      | GET /query?db=a&q=SELECT+1&q=SELECT+1          | 403
        r      | GET /query?db=a                                | 200
        reader | GET /query?db=b&q=SELECT+*+FROM+c..m           | 200
        reader | GET /query?db=a&q=SHOW+DATABASES               | 200
        reader | GET /query?db=a&q=SHOW+USERS                   | 403
        reader | GET /query?db=a&q=CREATE+DATABASE+a            | 403
        adm    | GET /query?q=CREATE+DATABASE+a                 | 200
        adm    | GET /query?db=a&q=DROP+MEASUREMENT+m           | 200
        adm    | GET /query?db=a&q=SELECT+*+INTO+b..n+FROM+m    | 403
        adm    | GET /query?db=a&q=DROP+DATABASE+b              | 403
        adm    | GET /query?db=a&q=GRANT+READ+ON+a+TO+r         | 403
        all    | GET /query?q=GRANT+READ+ON+a+TO+r              | 200
        r      | POST /api/v2/query                             | 403
        reader | POST /api/v2/query                             | 200
        r      | POST /api/v1/prom/read?db=a                    | 403
        r      | GET /api/v1/query?query=up                     | 403
        reader | GET /api/v1/query?query=up                     | 404";

#[test]
fn rights_hold_by_database() {
    let users = format!(
        "w {HASH} write=a,b\nr {HASH} read=a\nadm {HASH} admin=a\nreader {HASH} read=*\nall {HASH} all"
    );
    let (backend, relay) = guarded(&users, "", &[]);

    for line in RIGHTS.trim().lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (method, target) = cells[1].split_once(' ').unwrap();
        let body: &[u8] = if method == "GET" { b"" } else { b"m v=1 1\n" };
        let seen = backend.seen().len();
        let answer = ask(
            &relay.http,
            method,
            target,
            &basic(cells[0], "password"),
            body,
        );
        // A write that is taken is 204, whatever 2xx the backend answers.
        let heard = if answer.status == 204 {
            200
        } else {
            answer.status
        };
        assert_eq!(heard.to_string(), cells[2], "{line}: {answer:?}");
        let was_sent = backend.seen().len() > seen;
        assert!(!was_sent || heard == 200, "{line}");
    }
}

#[test]
fn what_is_forbidden_is_said_in_influxds_words_and_a_form_is_held_to_the_same() {
    let users = format!("w {HASH} write=a,b\nr {HASH} read=a");
    let (_backend, relay) = guarded(&users, "", &[]);
    let answer = post(&relay, "/write?db=c", &basic("w", "password"));
    let words = "{\"error\":\"\\\"w\\\" user is not authorized to write to database \\\"c\\\"\"}\n";
    assert_eq!(answer.body, words);
    let header = "\"w\" user is not authorized to write to database \"c\"";
    assert_eq!(answer.header("x-influxdb-error"), Some(header));
    let target = "/query?db=b&q=SELECT+v+FROM+m";
    let answer = ask(&relay.http, "GET", target, &basic("r", "password"), b"");
    let words = "{\"error\":\"error authorizing query: r not authorized to execute statement, requires READ on b\"}\n";
    assert_eq!(answer.body, words);
    // The form brings text and database, and is held to the same.
    let headers = |user: &str| {
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        format!("{}{form}", basic(user, "password"))
    };
    for (user, form, want) in [
        ("r", "db=a&q=SELECT+*+FROM+m", 200),
        ("r", "db=b&q=SELECT+*+FROM+m", 403),
        ("r", "db=a&q=SELECT+*+FROM+b..m", 403),
    ] {
        let answer = ask(
            &relay.http,
            "POST",
            "/query",
            &headers(user),
            form.as_bytes(),
        );
        assert_eq!(answer.status, want, "{user} {form}");
    }
    let answer = ask(
        &relay.http,
        "POST",
        "/query?db=a",
        &headers("r"),
        b"db=b&q=SHOW+SERIES",
    );
    assert_eq!(answer.status, 403, "two databases");
}

#[test]
fn who_has_been_verified_is_known() {
    let users = format!("jane {HASH} all\njohn {HASH} all");
    let (token, line) = new_token(&["t", "all"]);
    let (_backend, relay) = guarded(&users, &line, &[]);
    let count = || relay.metric(VERIFICATIONS);
    assert_eq!(count(), 0);
    for _ in 0..3 {
        assert_eq!(
            post(&relay, "/write?db=x", &basic("jane", "password")).status,
            204
        );
        let target = "/write?db=x&u=jane&p=password";
        assert_eq!(post(&relay, target, "").status, 204);
    }
    assert_eq!(count(), 1);
    assert_eq!(
        post(&relay, "/write?db=x", &basic("john", "password")).status,
        204
    );
    assert_eq!(count(), 2);
    for n in 0..3 {
        assert_eq!(
            post(&relay, "/write?db=x", &basic("jane", "wrong")).status,
            401
        );
        assert_eq!(count(), 3 + n, "what is wrong is not remembered");
    }
    assert_eq!(
        post(&relay, "/write?db=x", &basic("nobody", "password")).status,
        401
    );
    assert_eq!(
        count(),
        6,
        "it takes as long to find that there is no such user"
    );
    assert_eq!(
        post(&relay, "/write?db=x", &basic("jane", "password")).status,
        204
    );
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(post(&relay, "/write?db=x", &bearer).status, 204);
    assert_eq!(
        count(),
        6,
        "who is known stays known, and a token is known at once"
    );
}

#[test]
fn one_proof_serves_all_that_bring_it() {
    let (_backend, relay) = guarded(&format!("jane {} all", hash(&[], "password")), "", &[]);
    let head = basic("jane", "password");
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| assert_eq!(post(&relay, "/write?db=x", &head).status, 204));
        }
    });
    assert_eq!(relay.metric(VERIFICATIONS), 1);
}

#[test]
#[allow(clippy::too_many_lines)] // one flood, and all who are served meanwhile
fn a_flood_of_wrong_passwords_keeps_nobody_out() {
    let slow = slow_hash();
    let users = format!("jane {slow} all\njohn {slow} all");
    let (_backend, relay) = guarded(&users, "", &[]);
    let jane = basic("jane", "password");
    assert_eq!(post(&relay, "/write?db=x", &jane).status, 204);
    let is_over = AtomicBool::new(false);
    let heard: Vec<u16> = std::thread::scope(|scope| {
        let flood = |n: usize| {
            let (relay, is_over) = (&relay, &is_over);
            move || {
                let mut heard = Vec::new();
                for turn in 0..100 {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let wrong = basic(["jane", "john", "who"][n % 3], &format!("{n}-{turn}"));
                    let answer = post(relay, "/write?db=x", &wrong);
                    if answer.status == 503 {
                        assert_eq!(answer.header("retry-after"), Some("1"));
                    }
                    heard.push(answer.status);
                }
                heard
            }
        };
        let floods: Vec<_> = (0..48).map(|n| scope.spawn(flood(n))).collect();
        until("the queue is full", || {
            let row = "relay_http_requests_total{path=\"/write\",method=\"POST\",code=\"503\"}";
            let page = ask(&relay.admin, "GET", "/metrics", "", b"").body;
            page.contains(row)
        });
        // Who is known is served as ever: all of this while one wrong password is looked at, or few.
        let before = relay.metric(VERIFICATIONS);
        let mut client = Client::new(&relay.http);
        for _ in 0..200 {
            let head = format!(
                "POST /write?db=x HTTP/1.1\r\nHost: r\r\n{jane}Content-Length: 6\r\n\r\nm v=1\n"
            );
            client.send(head.as_bytes());
            assert_eq!(client.answer().unwrap().status, 204);
        }
        let meanwhile = relay.metric(VERIFICATIONS) - before;
        assert!(
            meanwhile < 100,
            "200 writes waited for {meanwhile} verifications"
        );
        // Who is not known yet comes in too, from another address.
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket
            .bind(
                &"127.0.0.2:0"
                    .parse::<std::net::SocketAddr>()
                    .unwrap()
                    .into(),
            )
            .unwrap();
        let address: std::net::SocketAddr = relay.http.parse().unwrap();
        socket.connect(&address.into()).unwrap();
        let mut client = Client::over(socket.into());
        let john = basic("john", "password");
        let head = format!(
            "POST /write?db=x HTTP/1.1\r\nHost: r\r\n{john}Content-Length: 6\r\n\r\nm v=1\n"
        );
        client.send(head.as_bytes());
        assert_eq!(client.answer().unwrap().status, 204);
        is_over.store(true, Ordering::Relaxed);
        floods
            .into_iter()
            .flat_map(|flood| flood.join().unwrap())
            .collect()
    });
    assert!(heard.contains(&401) && heard.contains(&503));
    assert!(
        heard.iter().all(|status| [401, 503].contains(status)),
        "{heard:?}"
    );
}

#[test]
fn who_is_refused_is_read_to_the_end_and_may_try_again() {
    let (backend, relay) = guarded(&format!("jane {HASH} write=x"), "", &[]);
    let mut client = Client::new(&relay.http);
    for (headers, want) in [
        (basic("jane", "wrong"), 401),
        (basic("jane", "password"), 204),
        (String::new(), 401),
        (basic("jane", "password"), 204),
    ] {
        let head = format!(
            "POST /write?db=x HTTP/1.1\r\nHost: r\r\n{headers}Content-Length: 8\r\n\r\nm v=1 1\n"
        );
        client.send(head.as_bytes());
        assert_eq!(client.answer().unwrap().status, want);
    }
    // It waits for a 100 that it is not given: nothing of the body is asked for.
    let mut client = Client::new(&relay.http);
    client.send(b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n");
    let answer = client.answer().unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (401, Some("close"))
    );
    // A large body that comes all the same does not take the answer with it.
    let mut client = Client::new(&relay.http);
    let body = vec![b'x'; 2_000_000];
    client.send(b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 2000000\r\n\r\n");
    client.send(&body);
    assert_eq!(client.answer().unwrap().status, 401);
    assert_eq!(backend.seen().len(), 2);
}

#[test]
fn what_the_client_brought_goes_on_unless_the_output_has_its_own() {
    let (a, b) = (Backend::accepting(), Backend::accepting());
    let file = std::env::temp_dir().join(format!("relay-access-{}.toml", std::process::id()));
    let text = format!(
        "[admin]\nbind-addr = \"127.0.0.1:0\"\n[[http]]\nbind-addr = \"127.0.0.1:0\"\nacks = 2\nusers = ['jane {HASH} all']\n\
         output = [{{ name = \"a\", location = \"http://{}\" }}, {{ name = \"b\", location = \"http://{}\", username = \"own\", password = \"its\" }}]\n",
        a.address, b.address
    );
    crate::secret_files::private(&file, &text);
    let relay = Relay::of_file(&file);
    assert_eq!(
        write(&relay.http, "/write?u=jane&db=x&p=password", "m v=1 1").status,
        204
    );
    assert_eq!(
        post(&relay, "/write?db=x", &basic("jane", "password")).status,
        204
    );
    std::fs::remove_file(&file).unwrap();
    let (a, b) = (a.seen(), b.seen());
    assert!(
        a[0].head
            .starts_with("POST /write?u=jane&db=x&p=password HTTP/1.1")
    );
    assert!(a[1].head.contains(&basic("jane", "password")));
    for seen in b {
        assert!(
            seen.head.starts_with("POST /write?db=x HTTP/1.1"),
            "{}",
            seen.head
        );
        assert!(seen.head.contains(&basic("own", "its")), "{}", seen.head);
        assert!(!seen.head.contains("jane") && !seen.head.contains("password"));
    }
}

#[test]
fn nobody_is_shown_a_secret() {
    let (token, line) = new_token(&["label-of-it", "all"]);
    let users = format!("jane-of-it {} all", hash(&[], "hunter2-of-it"));
    let its_hash = users.split('$').nth(5).unwrap()[..12].to_owned();
    let (_backend, relay) = guarded(&users, &line, &[]);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let mut pages = String::new();
    for (target, headers) in [
        ("/write?db=x&u=jane-of-it&p=hunter2-of-it", ""),
        ("/write?db=x&u=jane-of-it&p=passw0rd", ""),
        ("/write?db=x", &bearer),
        ("/query?q=nonsense+passw0rd", &bearer),
    ] {
        pages += &format!("{:?}", post(&relay, target, headers));
    }
    for page in ["/metrics", "/status", "/health", "/ready"] {
        pages += &ask(&relay.admin, "GET", page, "", b"").body;
    }
    let check = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"))
        .arg("check")
        .env("RELAY_HTTP_OUTPUTS", "a=http://h:1")
        .env("RELAY_HTTP_USERS", &users)
        .env("RELAY_HTTP_TOKENS", &line)
        .output()
        .unwrap();
    let check = String::from_utf8(check.stdout).unwrap();
    assert!(
        check.contains("1 user") && check.contains("1 token"),
        "{check}"
    );
    pages += &check;
    relay.term();
    until("it has drained", || {
        relay.said().contains("drain") || relay.said().len() > 1
    });
    pages += &relay.said();
    let digest = line.split_once("sha256:").unwrap().1;
    for secret in [
        &token,
        "hunter2-of-it",
        "passw0rd",
        &its_hash,
        &digest[..16],
        "jane-of-it",
        "label-of-it",
    ] {
        assert!(!pages.contains(secret), "{secret} is in {pages}");
    }
}

#[test]
fn hash_makes_lines_that_let_in() {
    let line = hash(&["jane", "write=x"], "a b:c\r\n");
    assert!(
        line.starts_with("jane $argon2id$v=19$m=19456,t=2,p=1$"),
        "{line}"
    );
    assert!(line.ends_with(" write=x"), "{line}");
    let (_backend, relay) = guarded(&line, "", &[]);
    assert_eq!(
        post(&relay, "/write?db=x", &basic("jane", "a b:c")).status,
        204
    );
    let (one, other) = (new_token(&[]), new_token(&[]));
    assert!(one.0 != other.0 && one.0.len() == 43 && one.1.starts_with("sha256:"));
    assert_ne!(hash(&[], "x"), hash(&[], "x"), "each has a salt of its own");
}
