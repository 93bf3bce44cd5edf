//! One table of the file, by its path in the file and in the words of `check`. Pure.

use crate::config::keys::Key;
use crate::config::kind::Written;
use std::fmt;
use toml::Table;

/// One table of the file, or what stands for it.
#[derive(Clone)]
pub struct Section<'t> {
    /// Its path in rows: `http[0].output[1]`; empty for the top.
    pub path: String,
    /// Its path in problems: the file's name before it, or a variable's.
    pub at: String,
    /// What it may hold.
    pub keys: &'static [Key],
    /// What the file says; `None` where it says nothing.
    pub table: Option<&'t Table>,
    /// Where the table comes from.
    pub source: Source,
    /// Whether variables speak of it.
    pub env: bool,
}

/// A value that was found, and where.
pub struct Found<'t> {
    /// As the operator wrote it.
    pub written: Written<'t>,
    /// Its key's path in problems, or its variable.
    pub at: String,
    /// What holds it.
    pub source: Source,
}

impl Section<'_> {
    /// The path of a key in rows.
    pub fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// The path of a key in problems.
    pub fn at_key(&self, name: &str) -> String {
        if self.path.is_empty() {
            format!("{}{name}", self.at)
        } else {
            format!("{}.{name}", self.at)
        }
    }

    /// What the heading of a table here is in a file: the path without its indices.
    pub fn heading(&self, name: &str) -> String {
        self.key(name)
            .replace(|c: char| "[]".contains(c) || c.is_ascii_digit(), "")
    }

    /// The variable that speaks of a key here, if one does.
    pub fn variable(&self, name: &str) -> Option<String> {
        let (name, suffix) = match self.keys.iter().any(|key| key.name == name) {
            true => (name, ""),
            false => (name.strip_suffix("-file")?, "_FILE"),
        };
        let key = self.keys.iter().find(|key| key.name == name)?;
        (self.env && !key.env.is_empty()).then(|| format!("{}{suffix}", key.env))
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Neither the file nor the environment says anything.
    Default,
    /// The file.
    File,
    /// A variable.
    Env,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Env => "env",
        })
    }
}

/// One value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `http[0].output[1].timeout`
    pub key: String,
    /// As it is in force; a secret is not shown.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
}
