//! The configuration of this process: its file, its environment, its CPUs, read once per start.

use std::cell::RefCell;
use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::boot::certificates;
use crate::boot::secret_file::{self, CLOSE_IT, TextFile};
use crate::boot::unfit::Unfit;
use crate::config::problem::Problem;
use crate::config::quota::{self, CpuQuota, Group};
use crate::config::{Effective, Facts, Input, read};

/// What was read.
pub struct Loaded {
    /// The plan of this process, and how each value came about.
    pub effective: Effective,
    /// Files with secrets that all users may read or change: it does not run with them.
    pub exposed: Vec<Unfit>,
}

impl Loaded {
    /// Every file that the plan names and the relay does not start with. Reads those of TLS.
    pub fn unfit(&self) -> Vec<Unfit> {
        let tls = certificates::check(&self.effective.plan);
        self.exposed.iter().cloned().chain(tls).collect()
    }
}

/// The plan of this process, and how each value came about.
///
/// # Errors
///
/// Every problem of the file and the environment, in words; a file that cannot be read is one of them.
pub fn load(config: Option<&Path>) -> Result<Loaded, Vec<String>> {
    let file = config.map(open).transpose().map_err(|why| vec![why])?;
    let env: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .filter(|(name, _)| name.starts_with("RELAY_"))
        .collect();
    // A file that is open to all is read on, so that one reading finds every problem.
    let exposed = RefCell::new(Vec::new());
    let secrets = |path: &str| {
        let file = secret_file::read_text(Path::new(path))?;
        if let Some(found) = file.exposed() {
            note(&mut exposed.borrow_mut(), path, found, CLOSE_IT);
        }
        Ok(file.text)
    };
    let facts = Facts {
        cpus_allowed: cpus_allowed(),
        cpu_quota: cpu_quota(),
    };
    let text = file
        .as_ref()
        .map(|(path, file)| (path.as_str(), file.text.as_str()));
    let effective = read(&Input {
        file: text,
        env: &env,
        secrets: &secrets,
        facts: &facts,
    });
    let exposed = exposed.into_inner();
    match effective {
        Ok(mut effective) => {
            if let Some((path, file)) = &file {
                let keys = std::mem::take(&mut effective.inline_secrets);
                note_inline(&mut effective.plan.notes, path, file, &keys);
            }
            Ok(Loaded { effective, exposed })
        }
        Err(problems) => {
            let problems = problems.iter().map(Problem::to_string);
            let exposed = exposed.iter().map(Unfit::to_string);
            Err(problems.chain(exposed).collect())
        }
    }
}

fn open(path: &Path) -> Result<(String, TextFile), String> {
    let at = path.display().to_string();
    match secret_file::read_text(path) {
        Ok(file) => Ok((at, file)),
        Err(reason) => Err(Problem {
            at,
            found: format!("a file that cannot be read ({reason})"),
            want: "the path of a file that this user may read".into(),
        }
        .to_string()),
    }
}

/// A Go relay's file may hold a password and be open to all, and is to load unchanged: so much is said.
fn note_inline(notes: &mut Vec<String>, path: &str, file: &TextFile, keys: &[String]) {
    if let Some(found) = file.exposed().filter(|_| !keys.is_empty()) {
        notes.push(format!(
            "{path} holds {found}, in {}: `chmod 640` it, with the relay's group, or keep secrets in files of their own \
             (token-file, password-file, users-file, tokens-file)",
            keys.join(", ")
        ));
    }
}

/// Notes each file once: several outputs may share one.
fn note(exposed: &mut Vec<Unfit>, path: &str, found: String, want: &'static str) {
    let unfit = Unfit {
        at: path.to_owned(),
        found,
        want,
    };
    if !exposed.contains(&unfit) {
        exposed.push(unfit);
    }
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

/// The tightest CPU quota of this process's control groups and those above them.
fn cpu_quota() -> Option<CpuQuota> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let groups = quota::groups(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?);
    let quotas = groups.into_iter().filter_map(|Group { folder, is_v2 }| {
        let (file, millicpus) = match is_v2 {
            true => {
                let file = format!("{folder}/cpu.max");
                let millicpus = quota::of_v2(&read(&file)?);
                (file, millicpus)
            }
            false => {
                let file = format!("{folder}/cpu.cfs_quota_us");
                let period = read(&format!("{folder}/cpu.cfs_period_us"))?;
                let millicpus = quota::of_v1(&read(&file)?, &period);
                (file, millicpus)
            }
        };
        millicpus.map(|millicpus| CpuQuota { millicpus, file })
    });
    quotas.min_by_key(|quota| quota.millicpus)
}
