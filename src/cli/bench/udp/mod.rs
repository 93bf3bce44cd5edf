//! `bench` by UDP: nobody answers a datagram, so whatever is sent is looked for where it should arrive.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use super::target;
use super::{BenchArgs, check_rate, pace, progress_bar, resolve};
use crate::cli::datagrams::Mailbox;
use crate::cli::poll::{self, Nanos};
use crate::cli::say;
use crate::limits::tools::{
    BENCH_LINGER_MAX, BENCH_RECEIVERS_MAX, BENCH_SOCKETS_MAX, TOOL_DATAGRAM_BYTES_MAX,
};
use drive::{Drive, Receiver};
use line::Shape;
use report::{Ear, Frame};
use tally::Heard;

mod drive;
mod line;
mod report;
mod seen;
mod tally;

/// What the arguments come to.
struct Work {
    /// Where each socket sends to.
    to: Vec<SocketAddr>,
    lines: usize,
    shape: Shape,
    linger: Duration,
}

/// Runs the load and says what came of it. Exit code 1 is wrong arguments, 2 is a port that is taken, or
/// nothing that could be sent.
pub(super) fn run(args: &BenchArgs) -> ExitCode {
    let fail = |code: u8, why: String| {
        say::error(format_args!("influxdb-relay bench: {why}"));
        ExitCode::from(code)
    };
    let work = match work(args) {
        Ok(work) => work,
        Err(why) => return fail(1, why),
    };
    let receivers = match receivers(args, &work) {
        Ok(receivers) => receivers,
        Err(why) => return fail(2, why),
    };
    let pace = pace(args);
    let (rate, seed) = (pace.rate, pace.seed);
    let bar = progress_bar(args, &pace);
    let driven = Drive::new(&work.to, receivers, work.shape.clone(), work.lines, pace);
    let driven = driven.and_then(|mut drive| {
        let seconds = drive.run(poll::span(work.linger), |gone| {
            bar.set_position(gone / 1_000_000);
        })?;
        Ok((seconds, drive))
    });
    bar.finish_and_clear();
    let (seconds, drive) = match driven {
        Ok(driven) => driven,
        Err(error) => return fail(2, error.to_string()),
    };
    let (targets, sent) = (args.targets.clone(), &drive.sent);
    if sent.all.datagrams == 0 && sent.refusals.iter().any(|count| *count > 0) {
        let targets = targets.join(" ");
        return fail(
            2,
            format!("nothing could be sent to {targets}; is there a route to it?"),
        );
    }
    let ears: Vec<_> = drive
        .receivers
        .into_iter()
        .zip(&args.receivers)
        .map(|(receiver, address)| {
            let lasted = receiver.heard.last_at.saturating_sub(drive.wall_start);
            ear(&work.to, &sent.lines, receiver, *address, lasted)
        })
        .collect();
    let frame = Frame {
        targets,
        lines: work.lines,
        line_bytes: work.shape.size(),
        rate,
        seed,
        seconds,
    };
    let page = match args.json {
        true => format!("{}\n", report::to_json(&frame, sent, &ears)),
        false => report::to_text(&frame, sent, &ears),
    };
    say::output(&page, ExitCode::SUCCESS)
}

/// A receiver that is itself a target should have heard what was sent to it; any other, everything.
fn ear(
    to: &[SocketAddr],
    lines: &[u64],
    receiver: Receiver,
    address: SocketAddr,
    lasted: Nanos,
) -> Ear {
    let all_to = |to_it: &dyn Fn(&SocketAddr) -> bool| {
        let sent = to.iter().zip(lines).filter(|(to, _)| to_it(to));
        sent.map(|(_, lines)| lines).sum()
    };
    let expected = if to.contains(&address) {
        all_to(&|to| *to == address)
    } else {
        all_to(&|_| true)
    };
    Ear {
        address: address.to_string(),
        seconds: lasted as f64 / poll::SECOND as f64,
        expected,
        kernel_drops: receiver.mailbox.kernel_drops(),
        heard: receiver.heard,
    }
}

fn receivers(args: &BenchArgs, work: &Work) -> Result<Vec<Receiver>, String> {
    let receiver = |address: &SocketAddr| {
        let mailbox = Mailbox::bind(*address).map_err(|error| {
            format!("cannot listen on udp {address}: {error}; choose another --receive")
        })?;
        let heard = Heard::new(&work.shape, work.to.len());
        Ok(Receiver { mailbox, heard })
    };
    args.receivers.iter().map(receiver).collect()
}

/// What is to be done, or the first thing that is wrong with the arguments.
fn work(args: &BenchArgs) -> Result<Work, String> {
    for (name, is_there) in [
        ("--connections-idle", args.connections_idle > 0),
        ("--gzip", args.gzip),
        ("--path", args.path.is_some()),
    ] {
        if is_there {
            return Err(format!(
                "{name}: is of HTTP alone; leave it out, or write --target http://HOST:PORT"
            ));
        }
    }
    check_rate(args.rate)?;
    let targets = args.targets.iter().map(|url| resolve(target::udp(url)?));
    let targets: Vec<_> = targets.collect::<Result<_, String>>()?;
    let (least, sockets) = (targets.len(), args.connections.unwrap_or(targets.len()));
    if !(least..=BENCH_SOCKETS_MAX).contains(&sockets) {
        return Err(format!(
            "--connections: found {sockets} sockets for {least} targets; write {least} to {BENCH_SOCKETS_MAX}"
        ));
    }
    let shape = Shape::new(poll::wall() / 1_000_000, !args.no_timestamps, args.size);
    if let Some(size) = args.size.filter(|size| *size < shape.size()) {
        let least = shape.size();
        return Err(format!("--size: found {size}; write {least} or more"));
    }
    let (lines, lines_max) = (
        args.lines.unwrap_or(1),
        TOOL_DATAGRAM_BYTES_MAX / shape.size(),
    );
    if lines_max == 0 {
        return Err(format!(
            "--size: found {}; write {TOOL_DATAGRAM_BYTES_MAX} or less, or no datagram can carry a line",
            shape.size()
        ));
    }
    if !(1..=lines_max).contains(&lines) {
        return Err(format!(
            "--lines: found {lines}; write 1 to {lines_max}: a datagram carries no more of {} bytes",
            shape.size()
        ));
    }
    check_receivers(&args.receivers)?;
    let linger = args.linger.unwrap_or(LINGER);
    if linger > BENCH_LINGER_MAX {
        return Err(format!(
            "--linger: found {linger:?}; write {BENCH_LINGER_MAX:?} or less"
        ));
    }
    Ok(Work {
        to: targets.into_iter().cycle().take(sockets).collect(),
        lines,
        shape,
        linger,
    })
}

fn check_receivers(receivers: &[SocketAddr]) -> Result<(), String> {
    if receivers.len() > BENCH_RECEIVERS_MAX {
        return Err(format!(
            "--receive: found {}; write {BENCH_RECEIVERS_MAX} or fewer",
            receivers.len()
        ));
    }
    match receivers.iter().find(|address| address.port() == 0) {
        Some(address) => Err(format!(
            "--receive: found {address}; write a port, for who sends there must know it"
        )),
        None => Ok(()),
    }
}

/// Long enough for what waits in a relay that is busy.
const LINGER: Duration = Duration::from_millis(300);
