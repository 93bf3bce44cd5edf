//! How often: 429 with the time to wait, for whom it holds, and for whom it does not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::backend::Backend;
use crate::client::{Answer, Client, ask, write};
use crate::relay::Relay;

const HASH: &str =
    "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";

fn relay(env: &[(&str, &str)]) -> (Backend, Relay) {
    let backend = Backend::accepting();
    let relay = Relay::start(&[("one", &backend.address)], env);
    (backend, relay)
}

fn is_429(answer: &Answer, whose: &str) {
    assert_eq!(answer.status, 429, "{answer:?}");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds >= 1);
    let words =
        format!("{{\"error\":\"rate limit exceeded for {whose}: try again in {seconds} s\"}}\n");
    assert_eq!(answer.body, words);
}

/// What one per second has given back since.
fn refilled(start: Instant) -> usize {
    usize::try_from(start.elapsed().as_secs()).unwrap() + 1
}

/// A client at another address of loopback.
fn client_at(address: &str, relay: &Relay) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let own: SocketAddr = format!("{address}:0").parse().unwrap();
    socket.bind(&own.into()).unwrap();
    let there: SocketAddr = relay.http.parse().unwrap();
    socket.connect(&there.into()).unwrap();
    Client::over(socket.into())
}

const WRITE: &[u8] = b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 8\r\n\r\nm v=1 1\n";

#[test]
fn a_listener_takes_a_burst_on_all_shards_together_and_then_says_when() {
    let rates = [
        ("RELAY_HTTP_RATE_LIMIT", "1"),
        ("RELAY_HTTP_BURST_LIMIT", "50"),
    ];
    let start = Instant::now();
    let (backend, relay) = relay(&rates);
    // Connections of their own, so that all shards are asked.
    let answers: Vec<Answer> = (0..120)
        .map(|_| write(&relay.http, "/write?db=x", "m v=1 1\n"))
        .collect();
    let most = 50 + refilled(start);
    let taken = answers.iter().filter(|answer| answer.status == 204).count();
    assert!((50..=most).contains(&taken), "{taken} of {most}");
    assert_eq!(backend.seen().len(), taken);
    let late = answers.iter().find(|answer| answer.status != 204).unwrap();
    is_429(late, "this listener");
    is_429(
        &ask(&relay.http, "GET", "/query?q=SHOW+DATABASES", "", b""),
        "this listener",
    );
    for _ in 0..100 {
        for path in ["/ping", "/ready", "/status"] {
            assert!(
                ask(&relay.http, "GET", path, "", b"").status < 300,
                "{path}"
            );
        }
    }
    assert!(
        ask(&relay.admin, "GET", "/metrics", "", b"")
            .body
            .contains("code=\"429\"")
    );
}

#[test]
fn a_rate_alone_is_a_burst_of_one_and_a_connection_stays() {
    let (_backend, relay) = relay(&[("RELAY_HTTP_RATE_LIMIT", "1")]);
    let mut client = Client::new(&relay.http);
    client.send(WRITE).send(WRITE).send(WRITE);
    assert_eq!(client.answer().unwrap().status, 204);
    let late = client.answer().unwrap();
    is_429(&late, "this listener");
    assert_eq!(late.header("retry-after"), Some("1"));
    assert_eq!(client.answer().unwrap().status, 429);
    std::thread::sleep(Duration::from_millis(1050)); // until the time that it was told
    client.send(WRITE);
    assert_eq!(client.answer().unwrap().status, 204);
}

#[test]
fn each_client_address_has_a_rate_of_its_own() {
    let rates = [
        ("RELAY_HTTP_CLIENT_RATE_LIMIT", "1"),
        ("RELAY_HTTP_CLIENT_BURST_LIMIT", "3"),
    ];
    let start = Instant::now();
    let (_backend, relay) = relay(&rates);
    // On connections of its own, on whatever shard they come in.
    let of_one = |address: &str| -> Vec<Answer> {
        let one = || {
            let mut client = client_at(address, &relay);
            client.send(WRITE);
            client.answer().unwrap()
        };
        (0..30).map(|_| one()).collect()
    };
    for address in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
        let answers = of_one(address);
        let taken = answers.iter().filter(|answer| answer.status == 204).count();
        let most = 3 + refilled(start);
        assert!((3..=most).contains(&taken), "{address}: {taken}");
        let late = answers.iter().find(|answer| answer.status != 204).unwrap();
        is_429(late, "this client address");
    }
    assert_eq!(ask(&relay.http, "GET", "/ping", "", b"").status, 204);
}

#[test]
fn each_user_has_a_rate_of_its_own_and_wrong_passwords_use_up_nobodys() {
    let users = format!("jane {HASH} all\njohn {HASH} all");
    let rates = [
        ("RELAY_HTTP_USERS", users.as_str()),
        ("RELAY_HTTP_USER_RATE_LIMIT", "1"),
        ("RELAY_HTTP_USER_BURST_LIMIT", "2"),
    ];
    let start = Instant::now();
    let (_backend, relay) = relay(&rates);
    for _ in 0..10 {
        let wrong = write(&relay.http, "/write?db=x&u=jane&p=wrong", "m v=1");
        assert_eq!(wrong.status, 401);
    }
    for user in ["jane", "john"] {
        let target = format!("/write?db=x&u={user}&p=password");
        let answers: Vec<Answer> = (0..20)
            .map(|_| write(&relay.http, &target, "m v=1"))
            .collect();
        let taken = answers.iter().filter(|answer| answer.status == 204).count();
        let most = 2 + refilled(start);
        assert!((2..=most).contains(&taken), "{user}: {taken}");
        let late = answers.iter().find(|answer| answer.status != 204).unwrap();
        is_429(late, "this user");
    }
}
