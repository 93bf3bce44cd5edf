//! A load generator that hides nothing: what is due is counted from when it was due.

use std::io::IsTerminal;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::duration;
use super::poll;
use crate::boot::kernel;
use crate::cli::say;
use crate::limits::tools::{BENCH_CONNECTIONS_MAX, BENCH_LINES_MAX};
use drive::{Drive, Lane, Pace};
use load::Load;
use report::Frame;
use target::{Target, are_udp};

mod answer;
mod client;
mod drive;
mod load;
mod report;
mod target;
mod udp;

/// What the operator types.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Where to send, http://HOST:PORT or udp://HOST:PORT; connections are spread over several
    #[arg(long = "target", value_name = "URL", required = true)]
    pub targets: Vec<String>,
    /// Connections that send, by UDP sockets [default: 16; by UDP one for each target]
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// More connections that say one GET /ping and then nothing
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub connections_idle: usize,
    /// Lines of each request or datagram [default: 100; by UDP 1]
    #[arg(long, value_name = "N")]
    pub lines: Option<usize>,
    /// Requests or datagrams a second over all connections, sent when they are due; without it each
    /// connection sends as soon as it has been answered, by UDP as soon as the socket takes more
    #[arg(long, value_name = "R")]
    pub rate: Option<f64>,
    /// With --rate: due as if from many independent clients, not evenly spaced
    #[arg(long, requires = "rate")]
    pub poisson: bool,
    /// With --poisson: the same seed, the same times
    #[arg(long, value_name = "N", requires = "poisson")]
    pub seed: Option<u64>,
    /// How long is measured
    #[arg(long, value_name = "D", default_value = "10s", value_parser = duration::parse)]
    pub duration: Duration,
    /// How long is sent before that
    #[arg(long, value_name = "D", default_value = "0", value_parser = duration::parse)]
    pub warmup: Duration,
    /// When an answer is given up
    #[arg(long, value_name = "D", default_value = "10s", value_parser = duration::parse)]
    pub timeout: Duration,
    /// By UDP: about so many bytes a line [default: 96; 102 with --no-timestamps]
    #[arg(long, value_name = "BYTES")]
    pub size: Option<usize>,
    /// By UDP: listens there as an output of the relay would, and checks every line that comes
    #[arg(long = "receive", value_name = "ADDR")]
    pub receivers: Vec<SocketAddr>,
    /// With --receive: how long nothing must have come before the end [default: 300ms]
    #[arg(long, value_name = "D", value_parser = duration::parse, requires = "receivers")]
    pub linger: Option<Duration>,
    /// Leaves the time of each line to the server
    #[arg(long)]
    pub no_timestamps: bool,
    /// Compresses each request, which costs the generator as much as a client
    #[arg(long)]
    pub gzip: bool,
    /// The database, where neither a target nor --path names one
    #[arg(long, value_name = "NAME", default_value = "bench")]
    pub db: String,
    /// Path and query of each request, where a target names none [default: /write?db=NAME]
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// Runs the load and says what came of it. Exit code 1 is wrong arguments, 2 is nobody there.
pub fn run(args: &BenchArgs) -> ExitCode {
    kernel::raise_descriptors();
    let lanes = match are_udp(&args.targets) {
        Ok(true) => return udp::run(args),
        Ok(false) => lanes(args),
        Err(why) => Err(why),
    };
    let lanes = match lanes {
        Ok(lanes) => lanes,
        Err(why) => {
            say::error(format_args!("influxdb-relay bench: {why}"));
            return ExitCode::from(1);
        }
    };
    let pace = pace(args);
    let seed = pace.seed;
    let bar = progress_bar(args, &pace);
    let driven = Drive::new(lanes, pace, connections(args), args.connections_idle)
        .and_then(|mut drive| Ok((drive.run(|gone| bar.set_position(gone / 1_000_000))?, drive)));
    bar.finish_and_clear();
    let (seconds, drive) = match driven {
        Ok((Some(seconds), drive)) => (seconds, drive),
        Ok((None, _)) => {
            let targets = args.targets.join(" ");
            say::error(format_args!(
                "influxdb-relay bench: no connection to {targets}; is it running, and is the port right?"
            ));
            return ExitCode::from(2);
        }
        Err(error) => {
            say::error(format_args!("influxdb-relay bench: {error}"));
            return ExitCode::from(2);
        }
    };
    let frame = Frame {
        targets: args.targets.clone(),
        connections: connections(args),
        connections_up: drive.connections_up(),
        lines: lines(args),
        rate: args.rate,
        seed,
        seconds,
    };
    let page = match args.json {
        true => format!("{}\n", drive.tally.to_json(&frame)),
        false => drive.tally.to_text(&frame),
    };
    say::output(&page, ExitCode::SUCCESS)
}

/// The targets with what goes to each, or the first thing that is wrong with the arguments.
fn lanes(args: &BenchArgs) -> Result<Vec<Lane>, String> {
    let total = connections(args).saturating_add(args.connections_idle);
    if !(1..=BENCH_CONNECTIONS_MAX).contains(&total) {
        return Err(format!(
            "found {total} connections; write 1 to {BENCH_CONNECTIONS_MAX}"
        ));
    }
    let lines = lines(args);
    if !(1..=BENCH_LINES_MAX).contains(&lines) {
        return Err(format!(
            "--lines: found {lines}; write 1 to {BENCH_LINES_MAX}"
        ));
    }
    check_rate(args.rate)?;
    for (name, is_there) in [
        ("--size", args.size.is_some()),
        ("--receive", !args.receivers.is_empty()),
    ] {
        if is_there {
            return Err(format!(
                "{name}: is of UDP alone; leave it out, or write --target udp://HOST:PORT"
            ));
        }
    }
    let path = args
        .path
        .clone()
        .unwrap_or_else(|| format!("/write?db={}", args.db));
    let lane = |url: &String| {
        let target = Target::parse(url, &path)?;
        let head =
            target.head("POST", &target.path) + "Content-Type: text/plain; charset=utf-8\r\n";
        Ok(Lane {
            address: resolve(&target.address)?,
            load: Load::new(&head, lines, !args.no_timestamps, args.gzip),
            hello: (target.head("GET", "/ping") + "\r\n").into_bytes(),
        })
    };
    args.targets.iter().map(lane).collect()
}

fn connections(args: &BenchArgs) -> usize {
    args.connections.unwrap_or(16)
}

fn lines(args: &BenchArgs) -> usize {
    args.lines.unwrap_or(100)
}

fn check_rate(rate: Option<f64>) -> Result<(), String> {
    match rate.filter(|rate| !(0.001..=1e9).contains(rate)) {
        Some(rate) => Err(format!(
            "--rate: found {rate}; write requests or datagrams a second, such as 5000"
        )),
        None => Ok(()),
    }
}

fn pace(args: &BenchArgs) -> Pace {
    let seed = args
        .poisson
        .then(|| args.seed.unwrap_or_else(|| poll::wall() % 1_000_000));
    Pace {
        rate: args.rate,
        seed,
        warmup: poll::span(args.warmup),
        duration: poll::span(args.duration),
        timeout: poll::span(args.timeout),
    }
}

/// Once per target, before anything is measured.
#[expect(clippy::disallowed_methods, reason = "there is no shard to block")]
fn resolve(address: &str) -> Result<SocketAddr, String> {
    let found = address
        .to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next());
    found.ok_or_else(|| {
        format!("--target: found {address:?}, which no resolver knows; write HOST:PORT")
    })
}

/// A bar on a terminal, and nothing elsewhere.
fn progress_bar(args: &BenchArgs, pace: &Pace) -> ProgressBar {
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %");
    let bar = ProgressBar::new((pace.warmup + pace.duration) / 1_000_000);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
