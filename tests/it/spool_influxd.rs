//! Two real `influxd`, a relay with a spool, and faults by dice: at the end both databases are the same.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::client::within;
use crate::influxd::Influxd;
use crate::spool_site::{Folder, Site, Writers};

/// Points with their times and values, as the writers name them.
fn points(server: &Influxd) -> BTreeMap<String, String> {
    let answer: Value = serde_json::from_str(&server.query("SELECT * FROM /.*/").body).unwrap();
    let mut points = BTreeMap::new();
    for series in answer["results"][0]["series"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let columns = series["columns"].as_array().unwrap();
        for row in series["values"].as_array().unwrap() {
            let (mut point, mut time, mut value) =
                (series["name"].as_str().unwrap().to_owned(), 0, 0);
            for (column, cell) in columns.iter().zip(row.as_array().unwrap()) {
                match column.as_str().unwrap() {
                    "time" => time = cell.as_i64().unwrap(),
                    "v" => value = cell.as_i64().unwrap(),
                    // What the other measurement has stands as null.
                    tag => point.extend(cell.as_str().map(|value| format!(",{tag}={value}"))),
                }
            }
            points.insert(format!("{point} {time}"), format!("v={value}i"));
        }
    }
    points
}

fn seed() -> u64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => u64::from(now.subsec_nanos()),
    }
}

#[test]
fn spool_keeps_two_influxd_the_same_whatever_dies() {
    let (Some(mut a), Some(mut b)) = (Influxd::start("spool-a"), Influxd::start("spool-b")) else {
        return;
    };
    let seed = seed();
    eprintln!("SEED={seed} repeats this");
    let mut dice = StdRng::seed_from_u64(seed);
    let outputs = [("a", &a), ("b", &b)];
    let outputs = outputs.map(|(name, server)| (name.to_owned(), server.address.clone()));
    let mut site = Site::at(Folder::new(), outputs.to_vec(), &[]);
    let writers = Writers::start(&site.http, 3);
    let mut is_up = [true, true];
    for step in 0..10 {
        writers.go_on(dice.random_range(50..150));
        let which = dice.random_range(0..2);
        let server = if which == 0 { &mut a } else { &mut b };
        match dice.random_range(0..3) {
            0 => {
                eprintln!("step {step}: the relay is killed");
                site.kill();
                site.start();
            }
            _ if !is_up[which] => {
                eprintln!("step {step}: influxd {which} returns");
                server.restart();
                is_up[which] = true;
            }
            _ if is_up[1 - which] => {
                eprintln!("step {step}: influxd {which} is killed");
                server.kill();
                is_up[which] = false;
            }
            _ => {}
        }
    }
    for (which, server) in [&mut a, &mut b].into_iter().enumerate() {
        if !is_up[which] {
            server.restart();
        }
    }
    let written = writers.stop();
    assert!(written.count > 500);
    for (which, server) in [&a, &b].into_iter().enumerate() {
        let most = Duration::from_secs(20);
        within(most, &format!("influxd {which} has all"), || {
            points(server).len() >= written.points.len()
        });
    }
    site.write("last v=1i 1");
    for (which, server) in [&a, &b].into_iter().enumerate() {
        let most = Duration::from_secs(20);
        within(most, &format!("influxd {which} has the last"), || {
            points(server).contains_key("last 1")
        });
    }
    let (at_a, at_b) = (points(&a), points(&b));
    assert!(at_a == at_b, "the databases are the same");
    for (point, value) in &written.points {
        assert_eq!(at_a.get(point), Some(value), "{point}");
    }
}
