//! A datagram's lines, one by one: judged, dated, counted. Pure.
//!
//! Points of one datagram that have no time get the same one, as InfluxDB gives them; those of the next
//! datagram get a later one, if only by a nanosecond: else two readings of one series that come in the
//! same turn would be one.

use crate::payload::judge::{Line, judge};
use crate::payload::line::Stamp;
use crate::plan::TimeUnit;

/// A line that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point<'a> {
    /// The line, without its newline, in three pieces: the stamp, if there is one, is the second.
    pub pieces: [&'a [u8]; 3],
    /// Some backends refuse it, and what comes with it.
    pub odd: bool,
}

/// What one or more datagrams held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Points.
    pub points: u64,
    /// Lines that are no points.
    pub malformed: u64,
    /// Lines that would kill an `influxd`.
    pub poison: u64,
}

/// Judges and dates lines.
#[derive(Debug)]
pub struct Sorter {
    unit: TimeUnit,
    /// When the last datagram came, in nanoseconds since 1970.
    last_ns: i64,
    /// What was found since [`Sorter::taken`].
    tally: Tally,
}

impl Sorter {
    /// For timestamps in this unit.
    pub fn new(unit: TimeUnit) -> Self {
        Self {
            unit,
            last_ns: 0,
            tally: Tally::default(),
        }
    }

    /// Takes a datagram that came at `now_ns`, and hands over its points in their order. Once per
    /// datagram; linear.
    pub fn take(&mut self, datagram: &[u8], now_ns: i64, mut point: impl FnMut(Point<'_>)) {
        let time_ns = now_ns.max(self.last_ns.saturating_add(1));
        self.last_ns = time_ns;
        let mut stamp = None;
        let mut start = 0;
        while start < datagram.len() {
            let (verdict, end) = judge(datagram, start, self.unit.ns);
            let line = &datagram[start..end];
            start = end + 1;
            let (undated, odd) = match verdict {
                Line::Nothing => continue,
                Line::Malformed => {
                    self.tally.malformed += 1;
                    continue;
                }
                Line::Poison => {
                    self.tally.poison += 1;
                    continue;
                }
                Line::Point { undated } => (undated, false),
                Line::Odd { undated } => (undated, true),
            };
            self.tally.points += 1;
            let pieces = match undated {
                None => [line, b"", b""],
                Some(at) => {
                    let unit_ns = self.unit.ns;
                    let stamp =
                        stamp.get_or_insert_with(|| Stamp::new(time_ns.div_euclid(unit_ns)));
                    [&line[..at], stamp.bytes(), &line[at..]]
                }
            };
            point(Point { pieces, odd });
        }
    }

    /// What was found since the last call.
    pub fn taken(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }
}

#[cfg(test)]
mod tests {
    use super::{Sorter, Tally};
    use crate::plan::TimeUnit;

    const NS: TimeUnit = TimeUnit { word: "n", ns: 1 };
    const MS: TimeUnit = TimeUnit {
        word: "ms",
        ns: 1_000_000,
    };

    fn take(sorter: &mut Sorter, datagram: &str, now_ns: i64) -> Vec<String> {
        let mut lines = Vec::new();
        sorter.take(datagram.as_bytes(), now_ns, |point| {
            lines.push(String::from_utf8(point.pieces.concat()).unwrap());
        });
        lines
    }

    #[test]
    fn what_is_no_point_is_counted_and_the_rest_goes_on_in_order() {
        let mut sorter = Sorter::new(NS);
        let datagram = "# a comment\n\na v=1 5\nno point\nb v=2\n  \nm \\\\=\"=\"\nc v=3 7";
        assert_eq!(
            take(&mut sorter, datagram, 100),
            ["a v=1 5", "b v=2 100", "c v=3 7"]
        );
        let tally = Tally {
            points: 3,
            malformed: 1,
            poison: 1,
        };
        assert_eq!(sorter.taken(), tally);
        assert_eq!(sorter.taken(), Tally::default());
        assert_eq!(take(&mut sorter, "", 101), [""; 0]);
        assert_eq!(sorter.taken(), Tally::default());
    }

    #[test]
    fn one_datagram_has_one_time_and_the_next_a_later_one() {
        let mut sorter = Sorter::new(NS);
        assert_eq!(
            take(&mut sorter, "a v=1\nb v=1", 100),
            ["a v=1 100", "b v=1 100"]
        );
        assert_eq!(take(&mut sorter, "a v=2", 100), ["a v=2 101"]);
        assert_eq!(take(&mut sorter, "a v=3", 50), ["a v=3 102"], "set back");
        assert_eq!(take(&mut sorter, "a v=4", 1000), ["a v=4 1000"]);
    }

    #[test]
    fn times_are_in_the_listeners_unit() {
        let mut sorter = Sorter::new(MS);
        let lines = take(&mut sorter, "a v=1\nb v=1 17", 1_700_000_000_123_456_789);
        assert_eq!(lines, ["a v=1 1700000000123", "b v=1 17"]);
    }
}
