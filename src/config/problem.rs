//! One thing the operator must change: where, what was found, what to write. Pure.

use std::fmt;

/// One thing the operator must change. No field ever holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `relay.toml: http[0].output[1].location`, or the name of a variable.
    pub at: String,
    /// What stands there.
    pub found: String,
    /// What to write instead.
    pub want: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}; write {}", self.at, self.found, self.want)
    }
}

/// The known word that `found` was most likely meant to be, if one is near enough.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    let slips_max = (found.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|word| {
            (
                strsim::damerau_levenshtein(&found, &word.to_lowercase()),
                word,
            )
        })
        .filter(|(slips, _)| *slips <= slips_max)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::{Problem, nearest};

    #[test]
    fn a_problem_reads_as_one_sentence() {
        let problem = Problem {
            at: "relay.toml: cpus".into(),
            found: "\"x\"".into(),
            want: "`auto`, or a list such as `0-3,6`".into(),
        };
        assert_eq!(
            problem.to_string(),
            "relay.toml: cpus: found \"x\"; write `auto`, or a list such as `0-3,6`"
        );
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["bind-addr", "burst-limit", "rate-limit", "name"];
        assert_eq!(nearest("bind_addr", known), Some("bind-addr"));
        assert_eq!(nearest("BIND-ADR", known), Some("bind-addr"));
        assert_eq!(nearest("ratelimit", known), Some("rate-limit"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }
}
