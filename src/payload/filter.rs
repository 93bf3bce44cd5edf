//! Which points an output is to get: each point by its measurement and its tags, alone. Pure.
//!
//! ```text
//!  cpu,host=a load=0.64␤                             cpu,host=a load=0.64␤
//!  mem,host=a free=7␤       measurement ^cpu$        # a comment␤
//!  # a comment␤             tag         ^host$  ──▶  cpu,host= load=1␤
//!  cpu,host=a,pod=p load=1␤
//!  cpu,host= load=1␤
//! ```
//!
//! The danger is a point that reaches an output which must not have it, or that is missing where it
//! belongs. So lines end, and names are read and unescaped, as InfluxDB does it (`point`, `key`), and what
//! stays stays byte for byte. A line goes as soon as something in it that can be read does not match: no
//! backend can make a point of it that would. What cannot be read decides nothing; such a line stays, for
//! the backend to say what is wrong with it.
//!
//! Expressions are those of the `regex` crate: linear in what they look at, anchored nowhere unless they
//! say so. Bytes that are no UTF-8 match no `.`.

use std::rc::Rc;

use memchr::memchr;
use regex::bytes::{Regex, RegexBuilder};
use thiserror::Error;

use crate::limits::filter::{EXPRESSION_DEPTH_MAX, PROGRAM_BYTES_MAX, PROGRAM_STATES_BYTES_MAX};
use crate::payload::key::{measurement_end, tag_behind};
use crate::payload::point::{next_line_end, skip_blanks};
use crate::plan::{BackendId, FilterPlan};

/// What a filter left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// All of it: the body goes as it came. What was to hold a copy holds nothing of use.
    All,
    /// Some points; the copy holds them.
    Some,
    /// No point. What was to hold a copy holds nothing of use.
    Nothing,
}

/// An expression that is none, and why, in one line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?}: {why}")]
pub struct BadExpression {
    /// As written.
    pub text: String,
    /// What is wrong with it, and from which character on.
    pub why: String,
}

/// The filters of one shard, each once, and which of them holds for which backend.
pub struct Filters {
    distinct: Vec<Filter>,
    /// For each backend of the plan.
    of: Vec<Option<FilterId>>,
}

/// Which filter: an index into the [`Filters`] that it is from. What two backends with the same one get
/// of a body is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(usize);

impl Filters {
    /// Compiles what each backend has, in the order of `Plan::backends`. Once per start and shard: what
    /// an expression remembers while it looks is shared with nobody, so there is no lock around it.
    ///
    /// # Errors
    /// The first expression that is none; `config` lets none pass.
    pub fn compile<'a>(
        plans: impl IntoIterator<Item = Option<&'a FilterPlan>>,
    ) -> Result<Self, BadExpression> {
        let (mut seen, mut distinct): (Vec<&FilterPlan>, Vec<Filter>) = Default::default();
        let mut shelf = Shelf::default();
        let mut of = Vec::new();
        for plan in plans {
            let Some(plan) = plan else {
                of.push(None);
                continue;
            };
            let known = seen.iter().position(|other| *other == plan);
            of.push(Some(FilterId(known.unwrap_or(seen.len()))));
            if known.is_none() {
                seen.push(plan);
                distinct.push(Filter::compile(plan, &mut shelf)?);
            }
        }
        Ok(Self { distinct, of })
    }

    /// The filter that holds for a backend; `None`: it gets every point.
    pub fn of(&self, BackendId(backend): BackendId) -> Option<FilterId> {
        self.of.get(backend).copied().flatten()
    }

    /// One filter. Panics on an index that is from other `Filters`.
    pub fn get(&self, FilterId(filter): FilterId) -> &Filter {
        &self.distinct[filter]
    }

    /// Each filter once.
    pub fn iter(&self) -> impl Iterator<Item = (FilterId, &Filter)> {
        let all = self.distinct.iter().enumerate();
        all.map(|(id, filter)| (FilterId(id), filter))
    }

    /// Whether every backend gets every point.
    pub fn is_empty(&self) -> bool {
        self.distinct.is_empty()
    }
}

/// Expressions that are compiled already: one that several filters have is compiled once.
#[derive(Default)]
struct Shelf(Vec<(String, Rc<Regex>)>);

impl Shelf {
    fn all(&mut self, texts: &[String]) -> Result<Vec<Rc<Regex>>, BadExpression> {
        texts.iter().map(|text| self.one(text)).collect()
    }

    fn one(&mut self, text: &str) -> Result<Rc<Regex>, BadExpression> {
        if let Some((_, expression)) = self.0.iter().find(|(known, _)| known == text) {
            return Ok(Rc::clone(expression));
        }
        let expression = Rc::new(expression(text)?);
        self.0.push((text.to_owned(), Rc::clone(&expression)));
        Ok(expression)
    }
}

/// Compiles one expression. Once per start and shard, and where the configuration is checked.
///
/// # Errors
/// It is none, or is larger than `limits::filter` allows.
pub fn expression(text: &str) -> Result<Regex, BadExpression> {
    let compiled = RegexBuilder::new(text)
        .size_limit(PROGRAM_BYTES_MAX)
        .dfa_size_limit(PROGRAM_STATES_BYTES_MAX)
        .nest_limit(EXPRESSION_DEPTH_MAX)
        .build();
    compiled.map_err(|error| BadExpression {
        text: text.to_owned(),
        why: in_one_line(&error.to_string()),
    })
}

/// The words of the `regex` crate, which draws the place with `^` under the expression.
fn in_one_line(drawn: &str) -> String {
    let lines = || drawn.lines().map(str::trim_end);
    let is_mark = |line: &&str| line.contains('^') && line.chars().all(|c| matches!(c, ' ' | '^'));
    let reason = lines().next_back().unwrap_or_default();
    let reason = reason.strip_prefix("error: ").unwrap_or(reason);
    // With one line of an expression the drawing is indented by four.
    match lines().filter(is_mark).collect::<Vec<_>>()[..] {
        [mark] if lines().count() == 4 => {
            let column = mark.find('^').unwrap_or_default().saturating_sub(3);
            format!("{reason}, at its character {column}")
        }
        _ => reason.to_owned(),
    }
}

/// What a filter needs while it looks. One per shard.
#[derive(Default)]
pub struct Scratch {
    /// A name without its escapes.
    plain: Vec<u8>,
}

/// All the filters that name one output: they hold together.
pub struct Filter {
    measurements: Vec<Rc<Regex>>,
    tags: Vec<Rc<Regex>>,
    tag_values: Vec<Rc<Regex>>,
}

impl Filter {
    fn compile(plan: &FilterPlan, shelf: &mut Shelf) -> Result<Self, BadExpression> {
        Ok(Self {
            measurements: shelf.all(&plan.measurements)?,
            tags: shelf.all(&plan.tags)?,
            tag_values: shelf.all(&plan.tag_values)?,
        })
    }

    /// What is left of a body of line protocol. Where it is less than all, `out` is emptied, and comes to
    /// hold the lines that stay, each as it came, comments among them.
    ///
    /// Once per write and filter; linear in the body; allocates only where `out` or `scratch` is too
    /// small, and for what an expression remembers, which has its own bound.
    pub fn apply(&self, body: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) -> Left {
        let (mut stay, mut go) = (0_usize, 0_usize);
        let (mut start, mut copied) = (0, 0);
        while start < body.len() {
            let end = next_line_end(body, start).at;
            let next = body.len().min(end + 1);
            let line = &body[start..end];
            let first = skip_blanks(line, 0);
            match line.get(first) {
                None | Some(b'#') => {}
                Some(_) if self.takes_line(line, first, scratch) => stay += 1,
                Some(_) => {
                    if go == 0 {
                        out.clear();
                        out.reserve(body.len());
                    }
                    go += 1;
                    out.extend_from_slice(&body[copied..start]);
                    copied = next;
                }
            }
            start = next;
        }
        if go == 0 {
            return Left::All;
        }
        if stay == 0 {
            return Left::Nothing;
        }
        out.extend_from_slice(&body[copied..]);
        Left::Some
    }

    /// Whether all that can be read of the key of a line, which begins at `first`, matches.
    fn takes_line(&self, line: &[u8], first: usize, scratch: &mut Scratch) -> bool {
        let Some(mut at) = measurement_end(line, first) else {
            return true;
        };
        let plain = &mut scratch.plain;
        if !self.takes_measurement(unescaped(&line[first..at], b",\" =", plain)) {
            return false;
        }
        if !self.looks_at_tags() {
            return true;
        }
        while line[at] == b',' {
            let Some(tag) = tag_behind(line, at) else {
                return true;
            };
            at = tag.value.end;
            if !self.takes_tag(unescaped(&line[tag.name], b", =", plain))
                || !self.takes_tag_value(unescaped(&line[tag.value], b", =", plain))
            {
                return false;
            }
        }
        true
    }

    /// Whether the tags of a point matter.
    pub(super) fn looks_at_tags(&self) -> bool {
        !(self.tags.is_empty() && self.tag_values.is_empty())
    }

    /// Whether a measurement matches, without its escapes.
    pub(super) fn takes_measurement(&self, name: &[u8]) -> bool {
        self.measurements.iter().all(|wanted| wanted.is_match(name))
    }

    /// Whether the name of a tag matches, without its escapes.
    pub(super) fn takes_tag(&self, name: &[u8]) -> bool {
        self.tags.iter().all(|wanted| wanted.is_match(name))
    }

    /// Whether the value of a tag matches, without its escapes.
    pub(super) fn takes_tag_value(&self, value: &[u8]) -> bool {
        self.tag_values.iter().all(|wanted| wanted.is_match(value))
    }
}

/// A name as it is stored: a `\` before one of `special` goes (`escape.Unescape`, `unescapeTag`). `room` is
/// only used where there is one.
fn unescaped<'a>(raw: &'a [u8], special: &[u8], room: &'a mut Vec<u8>) -> &'a [u8] {
    let Some(mut escape) = memchr(b'\\', raw) else {
        return raw;
    };
    room.clear();
    let mut copied = 0;
    loop {
        let is_escape = raw
            .get(escape + 1)
            .is_some_and(|byte| special.contains(byte));
        if is_escape {
            room.extend_from_slice(&raw[copied..escape]);
            copied = escape + 1;
        }
        // What is escaped is no `\`, so the next may stand right behind this one.
        match memchr(b'\\', &raw[escape + 1..]) {
            Some(found) => escape += 1 + found,
            None => break,
        }
    }
    room.extend_from_slice(&raw[copied..]);
    room
}

#[cfg(test)]
mod tests {
    use super::{Filters, Left, Scratch, expression, unescaped};
    use crate::plan::{BackendId, FilterPlan};

    fn plan(measurement: &str, tag: &str, tag_value: &str) -> FilterPlan {
        let some = |text: &str| {
            let text = Some(text.to_owned());
            text.filter(|text| !text.is_empty()).into_iter().collect()
        };
        FilterPlan {
            measurements: some(measurement),
            tags: some(tag),
            tag_values: some(tag_value),
        }
    }

    /// What is left of a body.
    fn left(plan: &FilterPlan, body: &[u8]) -> (Left, Vec<u8>) {
        let filters = Filters::compile([Some(plan)]).unwrap();
        let (mut scratch, mut out) = (Scratch::default(), b"old".to_vec());
        let filter = filters.get(filters.of(BackendId(0)).unwrap());
        let left = filter.apply(body, &mut scratch, &mut out);
        (left, out)
    }

    const ALL: &str = "(all)";
    const NOTHING: &str = "(nothing)";

    fn check(plan: &FilterPlan, rows: &[(&str, &str)]) {
        for (body, stays) in rows {
            let (left, out) = left(plan, body.as_bytes());
            let found = match left {
                Left::All => ALL.to_owned(),
                Left::Nothing => NOTHING.to_owned(),
                Left::Some => String::from_utf8(out).unwrap(),
            };
            assert_eq!(&found, stays, "{plan:?} {body:?}");
        }
    }

    #[test]
    fn a_point_passes_by_its_measurement() {
        check(
            &plan("^cpu$", "", ""),
            &[
                ("", ALL),
                ("\n\n# mem v=1\n \t\n", ALL),
                ("cpu v=1", ALL),
                ("cpu,host=a v=1\ncpu v=2\n", ALL),
                ("mem v=1", NOTHING),
                ("mem v=1\n", NOTHING),
                ("# only\n\nmem v=1\n# comments\n", NOTHING),
                ("mem v=1\ncpu v=1", "cpu v=1"),
                ("cpu v=1\nmem v=1", "cpu v=1\n"),
                ("mem v=1\ncpu v=1\n\nmem v=2\n# c\n", "cpu v=1\n\n# c\n"),
                ("mem v=1\r\ncpu v=1 17\r\n", "cpu v=1 17\r\n"),
                (" \tmem v=1\n\0 cpu v=1\n", "\0 cpu v=1\n"),
                ("cpu2 v=1\nacpu v=1", NOTHING),
                // A newline in a string or behind a `\` ends no line.
                ("mem s=\"a\ncpu v=1\"\ncpu v=2", "cpu v=2"),
                ("cpu s=\"a\nmem v=1\"\nmem v=2", "cpu s=\"a\nmem v=1\"\n"),
                ("cpu v=1\\\nmem v=2\ncpu v=3", ALL),
                ("mem\" v=1\ncpu v=3", "cpu v=3"),
                // Nobody can say what these are.
                ("cpu\nmem\nmem v=1", "cpu\nmem\n"),
                (",a=b v=1\nmem v=1", ",a=b v=1\n"),
                ("\r\nmem v=1\r\n", "\r\n"),
                ("{\"no\":\"points\"}\nmem v=1", "{\"no\":\"points\"}\n"),
                // Of these it is plain that they are no cpu, whatever else is wrong.
                ("mem,host v=1\nmem v=\nmem,\nmem v=\"\ncpu v=1", NOTHING),
                ("mem,host v=1\ncpu,host v=1\n", "cpu,host v=1\n"),
            ],
        );
        check(
            &plan("^a b,c=d\"e\\\\f$", "", ""),
            &[
                ("a\\ b\\,c\\=d\\\"e\\f v=1", ALL),
                ("a\\ b\\,c=d\"e\\f v=1", ALL),
                ("a\\ b\\,c=d\"ef v=1", NOTHING),
            ],
        );
        check(&plan("é", "", ""), &[("café v=1\ncafe v=1", "café v=1\n")]);
    }

    #[test]
    fn a_point_passes_if_all_its_tags_do() {
        check(
            &plan("", "^(host|a b)$", ""),
            &[
                ("cpu v=1", ALL),
                ("cpu,host=x,a\\ b=y v=1", ALL),
                ("cpu,a\\ b=y,host=x v=1", ALL),
                ("cpu,host=x,pod=y v=1", NOTHING),
                ("cpu,pod=y,host=x v=1", NOTHING),
                ("cpu,ab=y v=1\ncpu v=2", "cpu v=2"),
                ("cpu,host=x pod=y,v=1", ALL), // a field is no tag
                ("cpu,host=\\,pod\\=y v=1", ALL),
                ("cpu,host=a\\ ,pod=y v=1", NOTHING),
                // A value is missing: what stands before it counts, what stands behind it cannot be read.
                ("cpu,host= v=1\ncpu,pod=x v=1", "cpu,host= v=1\n"),
                ("cpu,host=,pod=x v=1", ALL),
                ("cpu,pod=x,host= v=1", NOTHING),
                ("cpu,pod= v=1", ALL),
                ("cpu,pod=x", ALL), // where the value ends is open
            ],
        );
        check(
            &plan("", "", "^[a-z]+ ?$"),
            &[
                ("cpu v=1", ALL),
                ("cpu,1=a,2=bc\\  v=1", ALL),
                ("cpu,a=1 v=1", NOTHING),
                ("cpu,a=b,c=d1 v=1\ncpu,a=b v=1", "cpu,a=b v=1"),
                ("cpu,a==b v=1", NOTHING), // the value is `=b`
            ],
        );
        check(
            &plan("cpu", "^host$", "^a"),
            &[(
                "cpu,host=a v=1\ncpu,host=b v=1\ncpu,os=a v=1\nmem,host=a v=1\ncpu v=1",
                "cpu,host=a v=1\ncpu v=1",
            )],
        );
    }

    #[test]
    fn bytes_that_are_no_utf8_are_names_too() {
        let body = b"c\xffpu,h\xc3=\xa9 v=1\nmem v=1\n";
        let (found, out) = left(&plan("^c(?-u:\\xff)pu$", "^h", ""), body);
        assert_eq!((found, &out[..]), (Left::Some, &body[..14]));
        assert_eq!(left(&plan("^c.pu$", "", ""), body).0, Left::Nothing);
    }

    #[test]
    fn filters_of_one_output_hold_together() {
        let mut both = plan("^c", "^h", "");
        both.measurements.push("u$".into());
        check(
            &both,
            &[(
                "cpu,host=a v=1\ncpus,host=a v=1\nmenu,host=a v=1\ncpu,os=a v=1",
                "cpu,host=a v=1\n",
            )],
        );
    }

    #[test]
    fn equal_plans_are_one_filter() {
        let (one, two) = (plan("a", "b", ""), plan("a", "", "b"));
        let plans = [Some(&one), None, Some(&two), Some(&one)];
        let filters = Filters::compile(plans).unwrap();
        let of = |backend| filters.of(BackendId(backend));
        assert_eq!(of(0), of(3));
        assert_ne!(of(0), of(2));
        assert!(of(0).is_some() && of(1).is_none() && of(9).is_none());
        assert_eq!(filters.iter().count(), 2);
        assert!(Filters::compile([None, None]).unwrap().is_empty());
    }

    #[test]
    fn escapes_go_where_influxdb_lets_them_go() {
        for (raw, special, plain) in [
            ("a", ", =", "a"),
            ("\\", ", =", "\\"),
            ("a\\", ", =", "a\\"),
            ("\\,\\ \\=", ", =", ", ="),
            ("\\\\,", ", =", "\\,"),
            ("\\\\", ", =", "\\\\"),
            ("\\t\\\"", ", =", "\\t\\\""),
            ("\\t\\\"", ",\" =", "\\t\""),
            ("a\\,b\\nc\\ d", ", =", "a,b\\nc d"),
        ] {
            let mut room = b"old".to_vec();
            let found = unescaped(raw.as_bytes(), special.as_bytes(), &mut room);
            assert_eq!(found, plain.as_bytes(), "{raw:?} {special:?}");
        }
    }

    #[test]
    fn a_bad_expression_is_told_in_one_line() {
        let why = |text: &str| expression(text).unwrap_err().why;
        assert_eq!(why("^a("), "unclosed group, at its character 3");
        assert_eq!(why("é["), "unclosed character class, at its character 2");
        assert_eq!(why("a\n("), "unclosed group");
        for text in [
            "(?=x)",
            "*",
            "\\1",
            "x{1000}{1000}",
            &"(".repeat(500),
            "\\w{300}",
        ] {
            let why = why(text);
            assert!(!why.is_empty() && !why.contains('\n'), "{text:?}: {why}");
        }
        assert!(expression("\\w{1,20}").is_ok());
    }
}
