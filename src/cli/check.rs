//! `influxdb-relay check`: what is in force and where it comes from, or everything that is wrong.

use crate::cli::load::load;
use crate::cli::say;
use crate::cli::serve::EXIT_WRONG;
use crate::config::Effective;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// Prints the effective configuration and exits 0; or every problem, or why the relay would refuse
/// to start with it, and exits 1.
pub fn run(config: Option<&Path>) -> ExitCode {
    match load(config) {
        Ok(loaded) => {
            let unfit = loaded.unfit();
            let code = match unfit.is_empty() {
                true => ExitCode::SUCCESS,
                false => ExitCode::from(EXIT_WRONG),
            };
            let code = say::output(&page(&loaded.effective), code);
            unfit.iter().for_each(say::error);
            code
        }
        Err(problems) => {
            problems.iter().for_each(say::error);
            ExitCode::from(EXIT_WRONG)
        }
    }
}

/// Every value with its source, then what deserves a word.
fn page(effective: &Effective) -> String {
    let rows = &effective.rows;
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
    for row in rows {
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
