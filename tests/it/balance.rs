//! `mode = "balance"` before relays, and what relays tell one another.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::client::{Client, ask, until, write};
use crate::relay::Relay;
use crate::spool_site::Site;
use crate::store::{Does, Store};

/// What a writer has had acknowledged; requests that failed.
struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<usize>>>,
    failed: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Writers {
    fn start(http: &str, count: usize) -> Self {
        let (stop, acknowledged, failed): (Arc<AtomicBool>, Arc<Mutex<BTreeSet<usize>>>, _) =
            Default::default();
        let failed: Arc<AtomicUsize> = failed;
        let threads = (0..count).map(|writer| {
            let (http, stop) = (http.to_owned(), Arc::clone(&stop));
            let (acknowledged, failed) = (Arc::clone(&acknowledged), Arc::clone(&failed));
            thread::spawn(move || {
                let mut client = Client::new(&http);
                for n in (writer..).step_by(count) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let body = format!("m,n={n} v=1");
                    let head = format!(
                        "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    client.send((head + &body).as_bytes());
                    match client.answer() {
                        Some(answer) if answer.status == 204 => {
                            acknowledged.lock().unwrap().insert(n);
                        }
                        Some(_) => drop(failed.fetch_add(1, Ordering::Relaxed)),
                        None => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            client = Client::new(&http);
                        }
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            })
        });
        let threads = threads.collect();
        Self {
            stop,
            acknowledged,
            failed,
            threads,
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn go_on(&self, more: usize) {
        let before = self.count();
        until("writes go on", || self.count() >= before + more);
    }

    fn stop(self) -> (BTreeSet<usize>, usize) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        (acknowledged, self.failed.load(Ordering::Relaxed))
    }
}

fn numbers(store: &Store) -> BTreeSet<usize> {
    let points = store.points();
    let number = |point: &String| point.split(['=', ' ']).nth(1)?.parse().ok();
    points.keys().filter_map(number).collect()
}

fn balancer(relays: &[(&str, &str)]) -> Relay {
    Relay::start(
        relays,
        &[
            ("RELAY_HTTP_MODE", "balance"),
            ("RELAY_CPUS", "0"), // each shard has turns of its own
            ("RELAY_PROBE_INTERVAL", "100ms"),
        ],
    )
}

#[test]
fn balance_loses_no_request_when_a_relay_is_killed_or_drained() {
    let (a, b) = (Store::new(), Store::new());
    let outputs = [("a", &a), ("b", &b)];
    let (mut one, mut two) = (Site::new(&outputs, &[]), Site::new(&outputs, &[]));
    let balancer = balancer(&[("one", &one.http), ("two", &two.http)]);
    let writers = Writers::start(&balancer.http, 8);
    writers.go_on(300);
    one.kill();
    writers.go_on(300);
    one.start();
    writers.go_on(300);
    two.term();
    writers.go_on(300);
    two.start();
    writers.go_on(300);
    let (acknowledged, failed) = writers.stop();
    assert_eq!(failed, 0, "of {}", acknowledged.len());
    until("all of it is in both", || {
        acknowledged.is_subset(&numbers(&a)) && acknowledged.is_subset(&numbers(&b))
    });
    // Points came without times: a second try was the same point.
    assert_eq!(numbers(&a).len(), a.count());
    // Both relays had their share.
    let page = |relay: &str| {
        balancer.metric(&format!(
            "relay_backend_requests_total{{backend=\"{relay}\",code=\"204\"}}"
        ))
    };
    assert!(page("one") > 200 && page("two") > 200);
}

#[test]
fn balance_passes_refusals_on_and_tries_all_before_it_gives_up() {
    let (a, b) = (Store::new(), Store::new());
    for store in [&a, &b] {
        store.rule(|seen| match String::from_utf8_lossy(&seen.body).as_ref() {
            body if body.starts_with("bad") => {
                Does::Say(400, "X-Influxdb-Error: e\r\n", "{\"error\":\"e\"}")
            }
            body if body.starts_with("full") => Does::Say(503, "", "{\"error\":\"full\"}"),
            _ => Does::Take,
        });
    }
    let balancer = balancer(&[("a", &a.address), ("b", &b.address)]);
    for n in 0..10 {
        assert_eq!(
            write(&balancer.http, "/write?db=x", &format!("m v=1 {n}")).status,
            204
        );
    }
    assert_eq!((a.count(), b.count()), (5, 5));
    let before = a.seen().len() + b.seen().len();
    let refused = write(&balancer.http, "/write?db=x", "bad");
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (400, "{\"error\":\"e\"}")
    );
    assert_eq!(
        a.seen().len() + b.seen().len(),
        before + 1,
        "a refusal is an answer"
    );
    let full = write(&balancer.http, "/write?db=x", "full");
    assert_eq!(
        (full.status, full.body.as_str()),
        (503, "{\"error\":\"full\"}")
    );
    assert_eq!(
        a.seen().len() + b.seen().len(),
        before + 3,
        "both were tried"
    );
}

#[test]
fn balance_queries_go_to_a_relay_which_asks_a_level_backend() {
    let (a, b) = (Store::new(), Store::new());
    for store in [&a, &b] {
        store.rule(|seen| match seen.head.contains("/write") {
            true => Does::Take,
            false => Does::Say(200, "", "{\"results\":[]}"),
        });
    }
    let outputs = [("a", &a), ("b", &b)];
    let (mut one, two) = (Site::new(&outputs, &[]), Site::new(&outputs, &[]));
    let balancer = balancer(&[("one", &one.http), ("two", &two.http)]);
    let query = || ask(&balancer.http, "POST", "/query?db=x&q=SELECT+1", "", b"");
    for round in 0..20 {
        let answer = query();
        assert_eq!(answer.status, 200, "{answer:?}");
        let named = answer
            .headers
            .iter()
            .filter(|header| header.0 == "x-relay-backend");
        let named: Vec<_> = named.map(|header| header.1.as_str()).collect();
        assert!(named == ["a"] || named == ["b"], "{named:?}");
        if round == 10 {
            one.kill();
        }
    }
    drop(two);
    assert_eq!(query().status, 503);
}

#[test]
fn peers_keep_a_backend_that_any_of_them_owes_out_of_reads() {
    let (a, mut b) = (Store::new(), Store::new());
    let answers = |seen: &crate::backend::Seen| match seen.head.contains("/write") {
        true => Does::Take,
        false => Does::Say(200, "", "{\"results\":[]}"),
    };
    a.rule(answers);
    b.rule(answers);
    let outputs = [("a", &a), ("b", &b)];
    let admin = crate::store::own_address();
    let mut one = Site::new(&outputs, &[("RELAY_ADMIN_BIND_ADDR", &admin)]);
    let peer = format!("http://{admin}");
    let two = Site::new(&outputs, &[("RELAY_PEERS", &peer), ("RELAY_CPUS", "0")]);
    let who = || -> BTreeSet<String> {
        let one = || ask(&two.http, "POST", "/query?db=x&q=SELECT+1", "", b"");
        (0..8)
            .map(|_| one().header("x-relay-backend").unwrap().to_owned())
            .collect()
    };
    let both: BTreeSet<String> = ["a", "b"].map(str::to_owned).into();
    until("both answer", || who() == both);
    // What one relay owes `b` the other knows soon, and says so to load balancers.
    b.stop();
    one.write("m v=1 1");
    one.says("backend is owed writes", 1);
    b.rule(move |seen| match seen.head.contains("/write") {
        true => Does::Say(503, "", ""),
        false => answers(seen),
    });
    b.start();
    let ready = || ask(&two.http, "GET", "/ready/b", "", b"").body;
    until("the other relay knows", || ready().contains("owed 7 bytes"));
    for _ in 0..10 {
        assert!(!who().contains("b"));
    }
    // A relay that is gone still owes it.
    one.kill();
    thread::sleep(Duration::from_millis(1_500));
    assert!(!who().contains("b"));
    b.rule(answers);
    one.start();
    until("both answer again", || who() == both);
    assert_eq!(ask(&two.http, "GET", "/ready/b", "", b"").status, 200);
}
