//! `spool export`: what is owed, or the dead letters, as something that can be sent again.
//!
//! Line protocol stands under a comment that names its target. Bodies that are no lines (remote-write)
//! are only in the JSON form, which has the shape of a dead letter.

use std::io::Write;
use std::process::ExitCode;

use crate::backend::flight::Kind;
use crate::cli::spool::reading::{dead_files, letters, owed, path_of, time_of};
use crate::cli::spool::{ExportArgs, Spool, Trouble};
use crate::limits;
use crate::payload::gzip::Inflater;
use crate::spool::dead_letter::{DeadLetter, without_credentials};
use crate::spool::record::Record;

/// Prints it.
///
/// # Errors
/// [`Trouble`].
#[allow(clippy::print_stderr)] // the operator asked
pub fn run(spool: &Spool, args: &ExportArgs) -> Result<ExitCode, Trouble> {
    let mut printer = Printer {
        out: std::io::BufWriter::new(std::io::stdout().lock()),
        json: args.json,
        target: String::new(),
        left_out: 0,
    };
    if args.dead {
        for file in dead_files(&spool.dir)? {
            letters(&file, |_, letter| match letter {
                Ok(letter)
                    if args
                        .backend
                        .as_ref()
                        .is_none_or(|name| *name == letter.backend) =>
                {
                    printer.print(&letter)
                }
                _ => Ok(()),
            })?;
        }
    } else {
        let names = match &args.backend {
            Some(name) => vec![name.clone()],
            None => spool.names(),
        };
        let inflater = &mut Inflater::new();
        for name in names {
            for log in &spool.archive.logs {
                owed(&log.track, &name, |record| {
                    printer.print(&letter_of(&name, record, inflater))
                })?;
            }
        }
    }
    printer.out.flush()?;
    if printer.left_out > 0 {
        eprintln!(
            "influxdb-relay: {} bodies are no line protocol and were left out: say --json",
            printer.left_out
        );
    }
    Ok(ExitCode::SUCCESS)
}

struct Printer<W: Write> {
    out: W,
    json: bool,
    target: String,
    left_out: u64,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, letter: &DeadLetter) -> Result<(), Trouble> {
        if self.json {
            writeln!(
                self.out,
                "{}",
                serde_json::to_string(letter).unwrap_or_default()
            )?;
            return Ok(());
        }
        let is_lines = letter.path != path_of(Kind::RemoteWrite.number())
            && !letter.path.ends_with("/prom/write");
        let (Some(body), true) = (letter.bytes(), is_lines) else {
            self.left_out += 1;
            return Ok(());
        };
        let target = format!("# POST {}?{}", letter.path, letter.query);
        if self.target != target {
            writeln!(self.out, "{target}")?;
            self.target = target;
        }
        self.out.write_all(&body)?;
        if !body.ends_with(b"\n") {
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// An owed record in the shape of a dead letter. A compressed body is inflated where it can be.
fn letter_of(name: &str, record: &Record<'_>, inflater: &mut Inflater) -> DeadLetter {
    let query = String::from_utf8_lossy(record.parts.query).into_owned();
    let mut letter = DeadLetter {
        time: time_of(record.wall_ms),
        backend: name.to_owned(),
        status: 0,
        reason: "owed".to_owned(),
        path: path_of(record.parts.kind).to_owned(),
        query: without_credentials(&query),
        body: None,
        base64: None,
    };
    let headers = record.parts.headers.to_ascii_lowercase();
    let is_gzip = memchr::memmem::find(&headers, b"content-encoding: gzip").is_some();
    let mut lines = Vec::new();
    let inflated = is_gzip
        && record.parts.kind != Kind::RemoteWrite.number()
        && inflater
            .inflate(record.parts.body, &mut lines, limits::SET_BODY_BYTES_MAX)
            .is_ok();
    letter.set_body(if inflated { &lines } else { record.parts.body });
    letter
}
