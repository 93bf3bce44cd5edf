//! The configuration of this process: its file, its environment, its CPUs, read once per start.

use crate::boot::secret_file;
use crate::config::problem::Problem;
use crate::config::{Effective, Facts, Input, read};
use rustix::thread::{CpuSet, sched_getaffinity};
use std::path::Path;

/// The plan of this process, and how each value came about.
///
/// # Errors
///
/// Every problem of the file and the environment; a file that cannot be read is one of them.
pub fn load(config: Option<&Path>) -> Result<Effective, Vec<Problem>> {
    let file = match config {
        None => None,
        Some(path) => match secret_file::read_text(path) {
            Ok(text) => Some((path.display().to_string(), text)),
            Err(reason) => {
                let at = path.display().to_string();
                let found = format!("a file that cannot be read ({reason})");
                return Err(vec![Problem {
                    at,
                    found,
                    want: "the path of a file that this user may read".into(),
                }]);
            }
        },
    };
    let env: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .filter(|(name, _)| name.starts_with("RELAY_"))
        .collect();
    let secrets = |path: &str| secret_file::read(Path::new(path));
    let facts = Facts {
        cpus_allowed: cpus_allowed(),
    };
    let file = file
        .as_ref()
        .map(|(path, text)| (path.as_str(), text.as_str()));
    read(&Input {
        file,
        env: &env,
        secrets: &secrets,
        facts: &facts,
    })
}

/// The CPUs that this process may use, ascending; none if the kernel does not say.
pub(super) fn cpus_allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect()
}
