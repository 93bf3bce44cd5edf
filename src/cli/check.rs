//! `influxdb-relay check`: what is in force and where it comes from, or everything that is wrong.

use crate::cli::load::load;
use crate::cli::say;
use crate::cli::serve::EXIT_WRONG;
use crate::config::Effective;
use crate::config::section::{Row, Source};
use serde_json::json;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// What is shown, and how.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Show {
    /// The same as one JSON object
    #[arg(long)]
    json: bool,
    /// Only the values that the file or the environment sets
    #[arg(long)]
    changed: bool,
}

/// Prints the effective configuration and exits 0; or every problem, or why the relay would refuse
/// to start with it, and exits 1.
pub fn run(config: Option<&Path>, show: Show) -> ExitCode {
    let (effective, problems) = match load(config) {
        Ok(loaded) => {
            let unfit = loaded.unfit().iter().map(ToString::to_string).collect();
            (Some(loaded.effective), unfit)
        }
        Err(problems) => (None, problems),
    };
    let code = match problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_WRONG),
    };
    if show.json {
        return say::output(&json(effective.as_ref(), &problems, show), code);
    }
    let mut text = effective
        .as_ref()
        .map_or_else(String::new, |effective| page(effective, show));
    if let (Some(effective), true) = (&effective, problems.is_empty()) {
        text.push_str(&fine(effective));
    }
    let code = say::output(&text, code);
    problems.iter().for_each(say::error);
    if !problems.is_empty() {
        let plural = if problems.len() == 1 { "" } else { "s" };
        say::error(format_args!(
            "{} problem{plural}: the relay does not start with this",
            problems.len()
        ));
    }
    code
}

/// The last line where nothing is wrong.
fn fine(effective: &Effective) -> String {
    let plan = &effective.plan;
    let count = |number: usize, one: &str| match number {
        1 => format!("1 {one}"),
        number => format!("{number} {one}s"),
    };
    format!(
        "fine: the relay starts with this ({}, {}, {})\n",
        count(plan.cpus.len(), "shard"),
        count(plan.backends.len() + plan.outputs.len(), "output"),
        count(plan.notes.len() + plan.not_in_force.len(), "note"),
    )
}

/// The rows that are shown.
fn rows(effective: &Effective, show: Show) -> impl Iterator<Item = &Row> {
    let rows = effective.rows.iter();
    rows.filter(move |row| !show.changed || row.source != Source::Default)
}

/// All of it, or what is wrong, as one JSON object and a newline.
fn json(effective: Option<&Effective>, problems: &[String], show: Show) -> String {
    let values = effective
        .into_iter()
        .flat_map(|effective| rows(effective, show));
    let values: Vec<_> = values
        .map(|row| json!({"key": row.key, "value": row.value, "source": row.source.to_string()}))
        .collect();
    let plan = effective.map(|effective| &effective.plan);
    let page = json!({
        "ok": problems.is_empty(),
        "problems": problems,
        "values": values,
        "notes": plan.map_or(&[][..], |plan| &plan.notes),
        "notInForce": plan.map_or(&[][..], |plan| &plan.not_in_force),
    });
    format!("{page}\n")
}

/// Every value with its source, then what deserves a word.
fn page(effective: &Effective, show: Show) -> String {
    let rows: Vec<&Row> = rows(effective, show).collect();
    let key_width = rows
        .iter()
        .map(|row| row.key.chars().count())
        .max()
        .unwrap_or(0);
    let value_width = rows
        .iter()
        .map(|row| row.value.chars().count())
        .filter(|width| *width <= 40)
        .max()
        .unwrap_or(0);
    let mut page = String::new();
    for row in &rows {
        let (key, value, source) = (&row.key, &row.value, row.source);
        let _ = writeln!(page, "{key:key_width$} = {value:value_width$}   ({source})"); // a String takes all
    }
    let plan = &effective.plan;
    for (title, lines) in [("note", &plan.notes), ("not in force", &plan.not_in_force)] {
        for line in lines {
            let _ = writeln!(page, "{title}: {line}");
        }
    }
    page
}
