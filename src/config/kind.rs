//! What a key may hold: how it is read, what to write instead, how it is shown. Pure.

use crate::config::units::{bytes, duration, show_bytes, show_duration};
use std::time::Duration;
use toml::Value;

/// A value as the operator wrote it.
#[derive(Clone, Copy)]
pub enum Written<'t> {
    /// In the file.
    Toml(&'t Value),
    /// In a variable.
    Text(&'t str),
}

/// Characters of a wrong value that are shown. The rest is cut.
const SHOWN_CHARS_MAX: usize = 60;

impl<'t> Written<'t> {
    /// A string of the file, or a variable as it is.
    pub fn text(self) -> Option<&'t str> {
        match self {
            Self::Toml(value) => value.as_str(),
            Self::Text(text) => Some(text),
        }
    }

    /// A whole number that is not negative.
    pub fn whole(self) -> Option<u64> {
        match self {
            Self::Toml(value) => value
                .as_integer()
                .and_then(|number| u64::try_from(number).ok()),
            Self::Text(text) => text.parse().ok(),
        }
    }

    /// An array of strings, or a text with commas. Blanks around an item are cut; none is empty.
    pub fn list(self) -> Option<Vec<String>> {
        let items: Vec<String> = match self {
            Self::Toml(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(|text| text.trim().to_owned()))
                .collect::<Option<_>>()?,
            other => {
                let text = other.text()?;
                let text = text.strip_suffix(',').unwrap_or(text);
                text.split(',').map(|item| item.trim().to_owned()).collect()
            }
        };
        (!items.iter().any(String::is_empty)).then_some(items)
    }

    /// What a problem quotes. A text with `@` or `?` may be a URL with a password,
    /// and is not shown.
    pub fn shown(self) -> String {
        let whole = match self {
            Self::Toml(value) => value.to_string(),
            Self::Text(text) => format!("{text:?}"),
        };
        if whole.contains(['@', '?']) {
            return "a value that is not shown here, as it may hold a password".into();
        }
        let one_line = whole.trim().replace(['\n', '\r'], " ");
        match one_line.char_indices().nth(SHOWN_CHARS_MAX) {
            None => one_line,
            Some((cut, _)) => format!("{}…", &one_line[..cut]),
        }
    }
}

/// What a key may hold.
pub trait Kind {
    /// What it becomes.
    type Value;
    /// The value, if it is right.
    fn read(&self, written: Written<'_>) -> Option<Self::Value>;
    /// What to write, in the words of a problem.
    fn want(&self) -> String;
    /// The value in force, as `check` prints it.
    fn show(&self, value: &Self::Value) -> String;
}

/// A size between two bounds; a plain number is in bytes.
pub struct Bytes {
    /// Smallest.
    pub min: usize,
    /// Largest.
    pub max: usize,
}

impl Kind for Bytes {
    type Value = usize;
    fn read(&self, written: Written<'_>) -> Option<usize> {
        let size = match written.whole() {
            Some(number) => usize::try_from(number).ok()?,
            None => bytes(written.text()?)?,
        };
        (self.min..=self.max).contains(&size).then_some(size)
    }
    fn want(&self) -> String {
        format!(
            "a size from {} to {}, such as \"25MB\" or \"16KiB\"",
            show_bytes(self.min),
            show_bytes(self.max)
        )
    }
    fn show(&self, value: &usize) -> String {
        show_bytes(*value)
    }
}

/// A duration between two bounds.
pub struct Wait {
    /// Shortest.
    pub min: Duration,
    /// Longest.
    pub max: Duration,
}

impl Kind for Wait {
    type Value = Duration;
    fn read(&self, written: Written<'_>) -> Option<Duration> {
        duration(written.text()?).filter(|wait| (self.min..=self.max).contains(wait))
    }
    fn want(&self) -> String {
        let (min, max) = (show_duration(self.min), show_duration(self.max));
        format!("a duration with its unit, from {min} to {max}, such as \"10s\" or \"1h30m\"")
    }
    fn show(&self, value: &Duration) -> String {
        show_duration(*value)
    }
}

/// A whole number between two bounds.
pub struct Whole {
    /// Smallest.
    pub min: u64,
    /// Largest.
    pub max: u64,
}

impl Kind for Whole {
    type Value = u64;
    fn read(&self, written: Written<'_>) -> Option<u64> {
        written
            .whole()
            .filter(|number| (self.min..=self.max).contains(number))
    }
    fn want(&self) -> String {
        format!("a whole number from {} to {}", self.min, self.max)
    }
    fn show(&self, value: &u64) -> String {
        value.to_string()
    }
}

/// Yes or no.
pub struct Flag;

impl Kind for Flag {
    type Value = bool;
    fn read(&self, written: Written<'_>) -> Option<bool> {
        match written {
            Written::Toml(value) => value.as_bool(),
            Written::Text("true" | "1") => Some(true),
            Written::Text("false" | "0") => Some(false),
            Written::Text(_) => None,
        }
    }
    fn want(&self) -> String {
        "true or false".into()
    }
    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
}

/// One of a few words.
pub struct Word<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Kind for Word<T> {
    type Value = T;
    fn read(&self, written: Written<'_>) -> Option<T> {
        let text = written.text()?;
        self.0
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, meaning)| *meaning)
    }
    fn want(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(word, _)| format!("{word:?}")).collect();
        words.join(" or ")
    }
    fn show(&self, value: &T) -> String {
        self.0
            .iter()
            .find(|(_, meaning)| meaning == value)
            .map_or_else(String::new, |(word, _)| (*word).to_owned())
    }
}

/// A text that passes a test.
pub struct Text {
    /// What to write.
    pub want: &'static str,
    /// The test.
    pub is_right: fn(&str) -> bool,
}

impl Kind for Text {
    type Value = String;
    fn read(&self, written: Written<'_>) -> Option<String> {
        written
            .text()
            .filter(|text| (self.is_right)(text))
            .map(str::to_owned)
    }
    fn want(&self) -> String {
        self.want.into()
    }
    fn show(&self, value: &String) -> String {
        value.clone()
    }
}

/// Some texts, each of which passes a test: an array in the file, commas in a variable.
pub struct List {
    /// What to write.
    pub want: &'static str,
    /// The test of one.
    pub is_right: fn(&str) -> bool,
}

impl Kind for List {
    type Value = Vec<String>;
    fn read(&self, written: Written<'_>) -> Option<Vec<String>> {
        written
            .list()
            .filter(|items| items.iter().all(|item| (self.is_right)(item)))
    }
    fn want(&self) -> String {
        self.want.into()
    }
    fn show(&self, value: &Vec<String>) -> String {
        value.join(",")
    }
}
/// The name of a file; empty for none.
pub const PATH: Text = Text {
    want: "the name of a file",
    is_right: |path| !path.contains('\0'),
};
