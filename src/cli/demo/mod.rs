//! The whole picture on loopback: a balancer, two relays, two backends, writers and a reader; one backend
//! and one relay are killed on the way, and at the end it is counted whether anything is missing.
//!
//! ```text
//!  writers, reader ─▶ balancer ─┬─▶ relay 1 ─┬─▶ backend 1
//!                               │      ╳     │      (influxd if there is one, else a sink)
//!                               └─▶ relay 2 ─┴─▶ backend 2
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::{load, poll};
use crate::cli::say;
use account::Account;
use cast::{Backend, Relay, free_address, has_influxd, rest};
use crowd::Crowd;
use stage::Stage;
use talk::Talk;

mod account;
mod cast;
mod crowd;
mod stage;
mod talk;

/// What the operator types.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// How long the writers write
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(4..=3600))]
    pub seconds: u64,
    /// Built-in sinks for backends, even if there is a real InfluxDB
    #[arg(long)]
    pub sinks: bool,
}

/// Plays it. Exit code 0 only if every acknowledged point is in both backends.
pub fn run(args: &DemoArgs) -> ExitCode {
    let folder = std::env::temp_dir().join(format!("influxdb-relay-demo-{}", std::process::id()));
    let played = fs::create_dir(&folder).and_then(|()| play(args, &folder));
    let _left_behind = fs::remove_dir_all(&folder);
    match played {
        Ok(account) => {
            let words = format!("\n{}", account.words());
            if account.adds_up() {
                let words = words + "every acknowledged point is in both backends\n";
                say::output(&words, ExitCode::SUCCESS)
            } else {
                let _the_rest_is_said = say::output(&words, ExitCode::from(1));
                say::error(format_args!(
                    "influxdb-relay demo: acknowledged points are missing"
                ));
                ExitCode::from(1)
            }
        }
        Err(why) => {
            say::error(format_args!("influxdb-relay demo: {why}"));
            ExitCode::from(2)
        }
    }
}

/// All processes, in their places.
struct Cast {
    backends: [Backend; 2],
    relays: [Relay; 2],
    balancer: Relay,
}

fn assemble(args: &DemoArgs, folder: &Path) -> io::Result<Cast> {
    let own: PathBuf = std::env::current_exe()?;
    let is_real = !args.sinks && has_influxd();
    let backend = |name: &str| match is_real {
        true => Backend::influxd(folder, name),
        false => Backend::sink(&own, folder, name),
    };
    let backends = [backend("backend-1")?, backend("backend-2")?];
    let cpus = load::cpus_allowed();
    let cpu = |place: usize| cpus[place % cpus.len().max(1)].to_string();
    let outputs = format!(
        "backend-1=http://{},backend-2=http://{}",
        backends[0].address, backends[1].address
    );
    let (http, admin) = (
        [free_address()?, free_address()?],
        [free_address()?, free_address()?],
    );
    let relay = |n: usize| {
        let env = vec![
            ("RELAY_CPUS", cpu(n)),
            ("RELAY_HTTP_OUTPUTS", outputs.clone()),
            (
                "RELAY_SPOOL_DIR",
                folder.join(format!("spool-{n}")).display().to_string(),
            ),
            ("RELAY_PEERS", format!("http://{}", admin[1 - n])),
            ("RELAY_PROBE_INTERVAL", "500ms".to_owned()),
        ];
        Relay::at(&own, &http[n], &admin[n], env)
    };
    let env = vec![
        ("RELAY_CPUS", cpu(2)),
        ("RELAY_HTTP_MODE", "balance".to_owned()),
        (
            "RELAY_HTTP_OUTPUTS",
            format!("relay-1=http://{},relay-2=http://{}", http[0], http[1]),
        ),
        ("RELAY_PROBE_INTERVAL", "200ms".to_owned()),
    ];
    Ok(Cast {
        balancer: Relay::at(&own, &free_address()?, &free_address()?, env),
        relays: [relay(0), relay(1)],
        backends,
    })
}

impl Cast {
    fn start(&mut self) -> io::Result<()> {
        for backend in &mut self.backends {
            backend.actor.start()?;
        }
        for backend in &self.backends {
            backend.wait()?;
        }
        for relay in self.relays.iter_mut().chain([&mut self.balancer]) {
            relay.actor.start()?;
            relay.wait()?;
        }
        let created =
            Talk::to(&self.balancer.http).ask("POST", "/query?q=CREATE+DATABASE+demo", "", "")?;
        match created.status {
            200..=299 => Ok(()),
            status => Err(io::Error::other(format!(
                "CREATE DATABASE is answered {status}: {}",
                created.body
            ))),
        }
    }

    /// One turn of the story.
    fn turn(&mut self, scene: Scene) -> io::Result<()> {
        match scene {
            Scene::BackendDies => self.backends[1].actor.kill(),
            Scene::RelayDies => self.relays[0].actor.kill(),
            Scene::RelayReturns => self.relays[0].actor.start()?,
            Scene::BackendReturns => self.backends[1].actor.start()?,
        }
        Ok(())
    }

    /// Whether every relay calls every backend level.
    fn is_level(&self) -> bool {
        let ready = |relay: &Relay, n: usize| {
            let answer = Talk::to(&relay.http).ask("GET", &format!("/ready/backend-{n}"), "", "");
            answer.is_ok_and(|answer| answer.status == 200)
        };
        self.relays
            .iter()
            .all(|relay| ready(relay, 1) && ready(relay, 2))
    }
}

#[derive(Debug, Clone, Copy)]
enum Scene {
    BackendDies,
    RelayDies,
    RelayReturns,
    BackendReturns,
}

/// When each scene comes, in hundredths of the whole, and what is said of it.
const STORY: [(u32, Scene, &str); 4] = [
    (
        15,
        Scene::BackendDies,
        "kill -9 backend 2: what it misses is kept for it",
    ),
    (
        35,
        Scene::RelayDies,
        "kill -9 relay 1: the balancer goes on with relay 2",
    ),
    (
        55,
        Scene::RelayReturns,
        "relay 1 is back, with what it owes",
    ),
    (
        65,
        Scene::BackendReturns,
        "backend 2 is back: it is brought level, in order",
    ),
];

fn play(args: &DemoArgs, folder: &Path) -> io::Result<Account> {
    let mut cast = assemble(args, folder)?;
    cast.start()?;
    let mut stage = Stage::new(cast.backends[0].is_real());
    let crowd = Crowd::start(&cast.balancer.http);
    let (begun, whole) = (poll::now(), Duration::from_secs(args.seconds));
    let gone = || Duration::from_nanos(poll::now() - begun);
    let mut story = STORY.into_iter().peekable();
    while gone() < whole {
        if let Some((_, scene, words)) = story.next_if(|next| gone() >= whole * next.0 / 100) {
            cast.turn(scene)?;
            stage.say(words);
        }
        stage.show(&mut cast, crowd.numbers());
        rest(LOOK);
    }
    let mut account = crowd.end();
    stage.say("the writers have ended; waiting until both backends are level");
    let until = poll::now() + poll::span(LEVEL_WAIT_MAX);
    while !cast.is_level() {
        if poll::now() > until {
            stage.say("in vain");
            break;
        }
        stage.show(&mut cast, Arc::default());
        rest(LOOK);
    }
    // What one backend acknowledged may be on its last steps to the other.
    for _ in 0..20 {
        for (n, backend) in cast.backends.iter().enumerate() {
            account.has[n] = backend.points()?;
        }
        if account.adds_up() {
            break;
        }
        rest(LOOK);
    }
    Ok(account)
}

const LOOK: Duration = Duration::from_millis(200);
const LEVEL_WAIT_MAX: Duration = Duration::from_secs(60);
