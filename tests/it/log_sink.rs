//! stderr that cannot be written: the relay takes writes and ends as ever, and counts the lines it lost.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::backend::Backend;
use crate::bare::{self, Bare};
use crate::client::{ask, until, write};
use crate::spool_site::Folder;

/// How long an end may take: nothing is under way.
const END_MAX: Duration = Duration::from_secs(8);

fn dropped(relay: &Bare) -> u64 {
    let page = ask(&relay.admin, "GET", "/metrics", "", b"").body;
    let row = "relay_log_lines_dropped_total ";
    let found = page.lines().find_map(|line| line.strip_prefix(row));
    found.expect("the metric is there").parse().unwrap()
}

fn takes_writes(relay: &Bare) {
    let answer = write(&relay.http, "/write?db=d", "m v=1 1");
    assert_eq!(answer.status, 204, "{answer:?}");
}

/// A relay with this stderr takes writes, loses lines, reloads, and ends well.
fn lives_with(stderr: Stdio) {
    let backend = Backend::accepting();
    let mut start = bare::relay(&backend.address);
    start.0.stderr(stderr);
    let mut relay = Bare::start(start);
    takes_writes(&relay);
    relay.signal(Signal::HUP);
    until("lines are counted as lost", || dropped(&relay) > 3);
    takes_writes(&relay);
    assert_eq!(relay.end(END_MAX).code(), Some(0));
}

#[test]
fn a_full_disk_under_stderr_stops_nothing() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    lives_with(full.into());
}

#[test]
fn a_reader_of_stderr_that_is_gone_stops_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    lives_with(writer.into());
}

#[test]
fn a_stderr_that_is_closed_stops_nothing() {
    let backend = Backend::accepting();
    let mut start = bare::relay(&backend.address);
    #[allow(unsafe_code)]
    // SAFETY: `close` is a plain system call, which a child may do between fork and exec.
    unsafe {
        start.0.pre_exec(|| {
            libc::close(2);
            Ok(())
        });
    }
    let mut relay = Bare::start(start);
    takes_writes(&relay);
    assert_eq!(relay.end(END_MAX).code(), Some(0));
}

/// A pipe that holds no more bytes.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    while writer.write(b".").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

#[test]
fn a_reader_of_stderr_that_is_stuck_stops_neither_the_start_nor_the_end() {
    let backend = Backend::accepting();
    let mut start = bare::relay(&backend.address);
    let (reader, writer) = full_pipe();
    start.0.stderr(writer);
    let mut relay = Bare::start(start);
    takes_writes(&relay);
    assert_eq!(relay.end(END_MAX).code(), Some(0));
    drop(reader);
}

#[test]
fn a_reader_that_reads_again_hears_what_waited_and_how_much_was_lost() {
    let backend = Backend::accepting();
    let mut start = bare::relay(&backend.address);
    let (reader, writer) = full_pipe();
    start.0.stderr(writer);
    let folder = Folder::new();
    let file = folder.path().join("relay.toml");
    std::fs::write(&file, "").unwrap();
    start.0.arg("--config").arg(&file);
    let mut relay = Bare::start(start);
    let unknown = (0..500).map(|number| format!("unknown-{number} = 1\n"));
    std::fs::write(&file, unknown.collect::<String>()).unwrap();
    until("the queue is full, and lines are lost", || {
        relay.signal(Signal::HUP); // a line for each key
        dropped(&relay) > 0
    });
    let mut lines = BufReader::new(reader).lines();
    assert!(lines.any(|line| line.unwrap().contains("ready shards")));
    assert!(lines.any(|line| line.unwrap().contains("could not be written")));
    std::thread::spawn(move || lines.count());
    takes_writes(&relay);
    assert_eq!(relay.end(END_MAX).code(), Some(0));
}

#[test]
fn a_second_reader_of_a_fifo_hears_the_relay_again() {
    let folder = Folder::new();
    let fifo = folder.path().join("log");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&fifo)
        .unwrap();
    let backend = Backend::accepting();
    let mut start = bare::relay(&backend.address);
    start.0.stderr(File::create(&fifo).unwrap());
    let mut relay = Bare::start(start);
    until("it says that it is ready", || {
        let mut all = Vec::new();
        let _no_more_yet = (&reader).read_to_end(&mut all);
        String::from_utf8_lossy(&all).contains("ready")
    });
    drop(reader);
    // A process that is being started elsewhere may hold the reading end for a moment, so one line may be taken.
    until("lines are counted as lost", || {
        relay.signal(Signal::HUP);
        dropped(&relay) > 0
    });
    let reader = File::open(&fifo).unwrap();
    relay.signal(Signal::HUP);
    let mut lines = BufReader::new(reader).lines();
    assert!(lines.any(|line| line.unwrap().contains("could not be written")));
    assert_eq!(relay.end(END_MAX).code(), Some(0));
}

/// Runs a subcommand with a stdout or a stderr that takes nothing.
fn run(arguments: &[&str], out: impl Into<Stdio>, err: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"))
        .args(arguments)
        .env("RELAY_HTTP_OUTPUTS", "a=http://127.0.0.1:1")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .unwrap();
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said).unwrap();
    }
    (child.wait().unwrap().code(), said)
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

fn unread() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

#[test]
fn a_subcommand_whose_output_cannot_be_written_says_so() {
    for arguments in [&["check"][..], &["hash", "--token"]] {
        let (code, said) = run(arguments, full(), Stdio::piped());
        assert!(
            matches!(code, Some(1 | 2)),
            "{arguments:?}: {code:?} {said}"
        );
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        assert!(said.contains("No space left"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_subcommand_whose_output_nobody_reads_is_quiet() {
    for arguments in [&["check"][..], &["hash", "--token"]] {
        let (code, said) = run(arguments, unread(), Stdio::piped());
        assert_eq!((code, said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_subcommand_whose_words_cannot_be_written_keeps_its_exit_code() {
    let cases: [(&[&str], i32); 10] = [
        (&["serve", "--config", "/nonexistent"], 1),
        (&["check", "--config", "/nonexistent"], 1),
        (&["hash", "someone"], 1),
        (&["bench", "--target", "nonsense"], 1),
        (
            &[
                "bench",
                "--target",
                "http://127.0.0.1:1/",
                "--duration",
                "10ms",
            ],
            2,
        ),
        (&["sink", "--http", "192.0.2.1:1"], 2),
        (&["spool", "list", "--dir", "/nonexistent"], 1),
        (&["spool", "verify", "--dir", "/nonexistent"], 1),
        (&["nonsense"], 1),
        (&["--nonsense"], 1),
    ];
    for (arguments, wanted) in cases {
        let (heard, _) = run(arguments, Stdio::null(), Stdio::null());
        assert_eq!(heard, Some(wanted), "{arguments:?}, when they can be");
        assert_eq!(
            run(arguments, full(), full()).0,
            Some(wanted),
            "{arguments:?}"
        );
        assert_eq!(
            run(arguments, unread(), unread()).0,
            Some(wanted),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_reader_of_stderr_that_is_stuck_holds_up_no_failed_start() {
    let (reader, writer) = full_pipe();
    let mut child = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"))
        .args(["serve", "--config", "/nonexistent"])
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut end = None;
    until("it ends", || {
        end = child.try_wait().unwrap();
        end.is_some()
    });
    assert_eq!(end.and_then(|end| end.code()), Some(1));
    drop(reader);
}
