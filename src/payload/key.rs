//! A measurement and its tags, as InfluxDB reads them, and what a line may die of in them. Pure.
//!
//! ```text
//!  cpu,host=a,region=eu load=0.64
//!  ╰┬╯ ╰─┬──╯ ╰───┬───╯
//!   measurement  tags: a name and a value each, neither empty; no name twice
//! ```
//!
//! A `,`, `=` or space behind a `\` ends nothing, even if that `\` is behind another. `scanKey`.

use std::cmp::Ordering;
use std::ops::Range;

use crate::limits::{KEY_BYTES_MAX, UNSORTED_TAGS_MAX};

/// A measurement and its tags.
pub(super) struct Key {
    /// Its end, at the space behind it.
    pub(super) end: usize,
    /// The end of the measurement.
    pub(super) measurement_end: usize,
    tags: usize,
    order: Order,
}

/// How the tags of a key follow one another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Each behind a smaller one.
    Rising,
    /// One behind its equal.
    Repeated,
    /// One behind a greater.
    Unsorted,
}

/// Whether a tag occurs twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repetition {
    /// None does.
    None,
    /// One does.
    Some,
    /// There are too many out of order to say.
    Unknown,
}

impl Key {
    /// `None` if it is none, or is too long.
    pub(super) fn read(line: &[u8], first: usize) -> Option<Self> {
        let measurement_end = measurement_end(line, first)?;
        let (mut tags, mut order, mut last) = (0, Order::Rising, &line[..0]);
        let end = walk_tags(line, measurement_end, |tag| {
            tags += 1;
            // Most differ in their first byte.
            let compared = last.first().cmp(&tag.first());
            match compared.then_with(|| last.cmp(tag)) {
                Ordering::Less => {}
                Ordering::Equal => order = Order::Repeated,
                Ordering::Greater if order == Order::Repeated => {}
                Ordering::Greater => order = Order::Unsorted,
            }
            last = tag;
        })?;
        (end - first <= KEY_BYTES_MAX).then_some(Self {
            end,
            measurement_end,
            tags,
            order,
        })
    }

    /// Whether an `influxd` 1.6 that reads so many tags from a datagram is gone.
    ///
    /// It notes where each tag begins in a list of 100 places, which it doubles when a further tag
    /// comes, and then the end of the last in one place more, which it does not look for. So a full
    /// list is a panic. Over HTTP that is caught, and answered 500; over UDP nobody catches it.
    pub(super) fn is_fatal(&self) -> bool {
        const PLACES: usize = 100;
        self.tags.is_multiple_of(PLACES) && (self.tags / PLACES).is_power_of_two()
    }

    /// Whether a tag occurs twice. InfluxDB sorts the tags one by one to know, which takes it time by
    /// the square of their number; past a bound they are not looked at, here.
    pub(super) fn repetition(&self, line: &[u8], first: usize) -> Repetition {
        const FEW: usize = 16;
        match self.order {
            Order::Rising => Repetition::None,
            Order::Repeated => Repetition::Some,
            Order::Unsorted if self.tags > UNSORTED_TAGS_MAX => Repetition::Unknown,
            Order::Unsorted => {
                let tags = &line[first..=self.end];
                let at = self.measurement_end - first;
                let has_twins = if self.tags <= FEW {
                    has_twins::<FEW>(tags, at)
                } else {
                    has_twins::<UNSORTED_TAGS_MAX>(tags, at)
                };
                if has_twins {
                    Repetition::Some
                } else {
                    Repetition::None
                }
            }
        }
    }
}

/// Whether one of at most `MOST` tags occurs twice.
fn has_twins<const MOST: usize>(line: &[u8], measurement_end: usize) -> bool {
    let mut tags: [&[u8]; MOST] = [b""; MOST];
    let mut count = 0;
    walk_tags(line, measurement_end, |tag| {
        if let Some(place) = tags.get_mut(count) {
            *place = tag;
        }
        count += 1;
    });
    let tags = &mut tags[..count.min(MOST)];
    tags.sort_unstable();
    tags.windows(2).any(|pair| pair[0] == pair[1])
}

/// The `,` or space that ends the measurement which begins at `first`: `scanMeasurement`.
pub(super) fn measurement_end(line: &[u8], first: usize) -> Option<usize> {
    if line[first] == b',' {
        return None;
    }
    end_of(line, first + 1, |byte| matches!(byte, b',' | b' '))
}

/// Where one tag lies in its line.
pub(super) struct Tag {
    /// Its name.
    pub(super) name: Range<usize>,
    /// Its value; behind it is the `,` of the next tag, or the space that ends the key.
    pub(super) value: Range<usize>,
}

/// The tag behind the `,` at `comma`; `None` if its name or its value is missing, or the value has a
/// `=`: one round of `scanTags`.
#[inline]
pub(super) fn tag_behind(line: &[u8], comma: usize) -> Option<Tag> {
    let name = comma + 1;
    if matches!(line.get(name)?, b' ' | b',' | b'=') {
        return None;
    }
    let equals = end_of(line, name + 1, |byte| matches!(byte, b' ' | b',' | b'='))?;
    if line[equals] != b'=' || matches!(line.get(equals + 1)?, b' ' | b',') {
        return None;
    }
    // A `=` that is the first byte of the value is let pass.
    let end = end_of(line, equals + 2, |byte| matches!(byte, b' ' | b',' | b'='))?;
    (line[end] != b'=').then_some(Tag {
        name: name..equals,
        value: equals + 1..end,
    })
}

/// Hands over the name of each tag from the `,` at `at` on, and returns the space behind the last;
/// `None` if one of them is none: `scanTags`.
fn walk_tags<'a>(line: &'a [u8], mut at: usize, mut each: impl FnMut(&'a [u8])) -> Option<usize> {
    while line[at] == b',' {
        let tag = tag_behind(line, at)?;
        each(&line[tag.name]);
        at = tag.value.end;
    }
    Some(at)
}

/// The first byte at or behind `at` that `ends`, and is not behind a `\`.
#[inline]
fn end_of(line: &[u8], mut at: usize, ends: impl Fn(u8) -> bool) -> Option<usize> {
    loop {
        if ends(*line.get(at)?) && line[at - 1] != b'\\' {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Repetition};

    #[test]
    fn a_key_has_a_measurement_and_tags() {
        for (line, measurement_end, tags, end) in [
            ("m v", 1, 0, 1),
            ("m,a=b v", 1, 1, 5),
            ("m,a=b,c=d v", 1, 2, 9),
            ("m\\,a=b,c=d v", 6, 1, 10),
            ("m\\\\,a v", 5, 0, 5),
            ("m,a=\\ b v", 1, 1, 7),
            ("m,a==b v", 1, 1, 6),
            ("m,\\== v", 1, 0, 0), // the value is missing
            ("m,\\=a=b v", 1, 1, 7),
        ] {
            let key = Key::read(line.as_bytes(), 0);
            let found = key.map(|key| (key.measurement_end, key.tags, key.end));
            let right = (end > 0).then_some((measurement_end, tags, end));
            assert_eq!(found, right, "{line:?}");
        }
        for line in [
            "",
            "m",
            "m,",
            "m,a",
            "m,a=",
            "m,a=b",
            ",a=b v",
            "m,a=b,",
            "m,a=b=c v",
        ] {
            let line = [line, "\\"].concat(); // which ends nothing
            assert!(Key::read(line.as_bytes(), 0).is_none(), "{line:?}");
        }
    }

    #[test]
    fn tags_repeat_where_their_bytes_do() {
        for (line, repeats) in [
            ("m,a=1,b=1,c=1 v", false),
            ("m,c=1,b=1,a=1 v", false),
            ("m,a=1,a=1 v", true),
            ("m,a=1,b=1,a=2 v", true),
            ("m,b=1,a=1,b=2 v", true),
            ("m,b=1,a=1,a=2,c=1 v", true),
            ("m,a=1,\\a=1 v", false),
            ("m,ab=1,a=1,abc=1 v", false),
        ] {
            let line = line.as_bytes();
            let found = Key::read(line, 0).unwrap().repetition(line, 0) == Repetition::Some;
            assert_eq!(found, repeats, "{:?}", String::from_utf8_lossy(line));
        }
    }
}
