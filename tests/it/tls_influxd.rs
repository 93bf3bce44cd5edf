//! A real `influxd` behind TLS, and TLS before the relay.

use crate::client::until;
use crate::influxd::Influxd;
use crate::relay::Relay;
use crate::spool_site::Folder;
use crate::store::own_address;
use crate::tls_bench::{Authority, put};

#[test]
fn tls_to_a_real_influxd() {
    let (folder, ours) = (Folder::new(), Authority::new("ours"));
    let address = own_address();
    let own = ours.sign(&["localhost", address.split(':').next().unwrap()]);
    let (pem, ca) = (
        put(&folder, "pem", &own.combined()),
        put(&folder, "ca", &ours.pem),
    );
    let Some(influxd) = Influxd::with_tls("tls", &address, &pem) else {
        return;
    };
    let env = [
        (
            "RELAY_HTTP_OUTPUTS",
            &*format!("a=https://{}", influxd.address),
        ),
        ("RELAY_HTTP_CA_FILE", &*ca),
        ("RELAY_HTTP_SSL_COMBINED_PEM", &*pem),
    ];
    let relay = Relay::start(&[], &env);
    let client = ours.client();
    let ask = |q: &str| {
        client.ask(
            &relay.http,
            "POST",
            &format!("/query?db=x&epoch=ns&q={q}"),
            b"",
        )
    };
    until("influxd answers", || ask("CREATE+DATABASE+x").status == 200);
    until("all shards have met it", || {
        relay.metric("relay_backend_up{backend=\"a\"}") == 1
    });
    let lines: String = (0..20_000)
        .map(|n| format!("m,n={} v={n}i {n}\n", n % 7))
        .collect();
    assert_eq!(client.write(&relay.http, &lines).status, 204);
    assert_eq!(client.write(&relay.http, "no point").status, 400);
    let answer = ask("SELECT+count(v)+FROM+m");
    assert!(answer.body.contains("[0,20000]"), "{answer:?}");
    let all = ask("SELECT+v+FROM+m&chunked=true&chunk_size=1000");
    assert_eq!(
        all.body.matches("\"partial\":true").count() / 2,
        19,
        "{}",
        all.body.len()
    );
    let version = client.ask(&relay.http, "GET", "/ping", b"");
    assert!(
        version
            .header("x-influxdb-version")
            .is_some_and(|version| version.ends_with("-relay"))
    );
}
