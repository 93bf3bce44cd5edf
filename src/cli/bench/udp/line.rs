//! The lines that `bench` sends in datagrams, each checkable by itself. Pure.
//!
//! ```text
//! cpu,host=web-00SSS,region=eu-west usage_idle=CC.CCC,seq=RRRLLLNNNNNNNNNNNNi 1700000000123456789
//!                                                        run, socket, number  when it was sent
//! ```
//!
//! All lines of a run are equally long and differ in digits only, so one is written, and read, as a few
//! numbers at fixed places. `SSS` follows from the number, so that the lines of a datagram are of
//! different series; `CCCCC` is a checksum of number and time, so that no digit can change unseen; `RRR`
//! tells this run's lines from another's. Where the server must say when, the time is a field.

/// Digits of a time in nanoseconds, from 2001 to 2286.
const TIME_DIGITS: usize = 19;
const SEQ_DIGITS: usize = 18;
/// Lines of one socket: the last twelve digits.
const NUMBERS: u64 = 1_000_000_000_000;
const SOCKETS: u64 = 1_000;
/// The note that makes a line longer, but for its text.
const NOTE: &str = ",note=\"\"";

/// What makes a line one of this run's, and how it is written.
#[derive(Clone)]
pub(super) struct Shape {
    /// One line with its newline.
    text: Vec<u8>,
    run: u64,
    host_at: usize,
    check_at: usize,
    seq_at: usize,
    time_at: usize,
    stamped: bool,
}

/// A time, and its digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Nanoseconds since 1970.
    pub(super) nanos: u64,
    digits: [u8; TIME_DIGITS],
}

impl Moment {
    /// Writes it once, for all lines that carry it.
    pub(super) fn new(nanos: u64) -> Self {
        let mut digits = [b'0'; TIME_DIGITS];
        put(&mut digits, nanos);
        Self { nanos, digits }
    }
}

/// What one line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// Which socket sent it.
    pub(super) socket: usize,
    /// Which line of that socket's.
    pub(super) number: u64,
}

impl Shape {
    /// Lines of about `size` bytes, or of the shortest form. `run` tells runs apart; without `stamped`
    /// the server must say when.
    pub(super) fn new(run: u64, stamped: bool, size: Option<usize>) -> Self {
        let mut text = "cpu,host=web-00".to_owned();
        let mut place = |behind: &str, digits: usize| {
            text.push_str(behind);
            let at = text.len();
            text.extend(std::iter::repeat_n('0', digits));
            at
        };
        let host_at = place("", 3);
        let check_at = place(",region=eu-west usage_idle=", 2);
        place(".", 3);
        let seq_at = place(",seq=", SEQ_DIGITS);
        let sent_at = (!stamped).then(|| place("i,sent=", TIME_DIGITS));
        text.push('i');
        let behind = if stamped { TIME_DIGITS + 2 } else { 1 };
        let missing = size
            .unwrap_or_default()
            .saturating_sub(text.len() + behind + NOTE.len());
        if missing > 0 {
            text.push_str(&NOTE[..NOTE.len() - 1]);
            text.extend(PADDING.chars().cycle().take(missing));
            text.push('"');
        }
        let time_at = sent_at.unwrap_or_else(|| {
            text.push(' ');
            text.extend(std::iter::repeat_n('0', TIME_DIGITS));
            text.len() - TIME_DIGITS
        });
        text.push('\n');
        Self {
            text: text.into_bytes(),
            run: 100 + run % 800,
            host_at,
            check_at,
            seq_at,
            time_at,
            stamped,
        }
    }

    /// Bytes of each line, its newline included.
    pub(super) fn size(&self) -> usize {
        self.text.len()
    }

    /// Lines with no number yet, for [`Shape::write`].
    pub(super) fn blank(&self, lines: usize) -> Vec<u8> {
        self.text.repeat(lines)
    }

    /// Puts `said` and the time into `line`, a blank one or one of this shape. *Once per point.*
    pub(super) fn write(&self, line: &mut [u8], said: Said, sent: &Moment) {
        let seq = (self.run * SOCKETS + said.socket as u64) * NUMBERS + said.number;
        let check = check(seq, sent.nanos);
        put(&mut line[self.host_at..][..3], said.number % 1_000);
        put(&mut line[self.check_at..][..2], check / 1_000);
        put(&mut line[self.check_at + 3..][..3], check % 1_000);
        put(&mut line[self.seq_at..][..SEQ_DIGITS], seq);
        line[self.time_at..][..TIME_DIGITS].copy_from_slice(&sent.digits);
    }
}

/// Reads lines back. Knows the time of the last, for lines that were sent together share it.
pub(super) struct Reader {
    shape: Shape,
    expected: Vec<u8>,
    last: Moment,
}

impl Reader {
    /// Reads lines of this shape.
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            shape: shape.clone(),
            expected: shape.blank(1),
            last: Moment::new(0),
        }
    }

    /// What `line`, without its newline, says, and when it was sent; `None` if it is none of this run's,
    /// or not as it was sent. A time that a server has put behind it is accepted. *Once per point.*
    pub(super) fn read(&mut self, line: &[u8]) -> Option<(Said, u64)> {
        let shape = &self.shape;
        let (own, stamp) = line.split_at_checked(shape.size() - 1)?;
        if !stamp.is_empty() && (shape.stamped || !is_stamp(stamp)) {
            return None;
        }
        let digits: [u8; TIME_DIGITS] = own[shape.time_at..][..TIME_DIGITS].try_into().ok()?;
        if digits != self.last.digits {
            let nanos = number(&digits)?;
            self.last = Moment { nanos, digits };
        }
        let seq = number(&own[shape.seq_at..][..SEQ_DIGITS])?;
        let socket = (seq / NUMBERS).checked_sub(shape.run * SOCKETS)?;
        if socket >= SOCKETS {
            return None;
        }
        let said = Said {
            socket: usize::try_from(socket).ok()?,
            number: seq % NUMBERS,
        };
        shape.write(&mut self.expected, said, &self.last);
        (own == &self.expected[..own.len()]).then_some((said, self.last.nanos))
    }
}

/// Whether it is a blank and a time.
fn is_stamp(text: &[u8]) -> bool {
    let time = text.strip_prefix(b" ").unwrap_or_default();
    (1..=TIME_DIGITS).contains(&time.len()) && time.iter().all(u8::is_ascii_digit)
}

/// Below 100,000. Every bit of both counts.
fn check(seq: u64, nanos: u64) -> u64 {
    let mixed = (seq ^ nanos.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) % 100_000
}

/// Writes `number` into all of `into`, with leading zeros.
fn put(into: &mut [u8], mut number: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Digits only; at most nineteen.
fn number(digits: &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    let mut chunks = digits.chunks_exact(8);
    for eight in &mut chunks {
        number = number * 100_000_000 + number_of_eight(eight.try_into().ok()?)?;
    }
    for digit in chunks.remainder() {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    Some(number)
}

/// Eight digits at once: pairs, then fours, then all of them.
fn number_of_eight(digits: [u8; 8]) -> Option<u64> {
    let word = u64::from_le_bytes(digits);
    let zeros = 0x3030_3030_3030_3030;
    let high = 0xF0F0_F0F0_F0F0_F0F0;
    if word & high != zeros || word.wrapping_add(0x0606_0606_0606_0606) & high != zeros {
        return None;
    }
    let pairs = (word & 0x0F0F_0F0F_0F0F_0F0F).wrapping_mul(2561) >> 8;
    let fours = (pairs & 0x00FF_00FF_00FF_00FF).wrapping_mul(6_553_601) >> 16;
    Some((fours & 0x0000_FFFF_0000_FFFF).wrapping_mul(42_949_672_960_001) >> 32)
}

/// A note like those of a log.
const PADDING: &str = "GET /api/items?page=1 200 took 12 ms; ";

#[cfg(test)]
mod tests {
    use super::{Moment, Reader, Said, Shape, number};

    const SENT: u64 = 1_700_000_000_123_456_789;
    const SAID: Said = Said {
        socket: 3,
        number: 45_678,
    };

    fn line(shape: &Shape) -> Vec<u8> {
        let mut line = shape.blank(1);
        shape.write(&mut line, SAID, &Moment::new(SENT));
        line
    }

    #[test]
    fn a_line_is_line_protocol_and_is_read_back() {
        for (stamped, size, end) in [
            (true, 96, "i 1700000000123456789\n"),
            (false, 102, "i,sent=1700000000123456789i\n"),
        ] {
            let shape = Shape::new(7, stamped, None);
            let line = line(&shape);
            let text = str::from_utf8(&line).unwrap();
            assert_eq!((shape.size(), text.len()), (size, size));
            assert!(
                text.starts_with("cpu,host=web-00678,region=eu-west usage_idle="),
                "{text}"
            );
            assert!(text.contains(",seq=107003000000045678i"), "{text}");
            assert!(text.ends_with(end), "{text}");
            let mut reader = Reader::new(&shape);
            assert_eq!(reader.read(text.trim_end().as_bytes()), Some((SAID, SENT)));
        }
    }

    #[test]
    fn size_makes_a_line_longer_and_never_shorter() {
        for (asked, stamped, got) in [
            (1, true, 96),
            (104, true, 96),
            (105, true, 105),
            (300, true, 300),
            (300, false, 300),
        ] {
            let shape = Shape::new(0, stamped, Some(asked));
            assert_eq!(shape.size(), got, "{asked}");
            let line = line(&shape);
            let text = str::from_utf8(&line).unwrap();
            assert_eq!(text.matches('"').count(), if got > 102 { 2 } else { 0 });
            let mut reader = Reader::new(&shape);
            assert_eq!(reader.read(text.trim_end().as_bytes()), Some((SAID, SENT)));
        }
    }

    #[test]
    fn no_byte_changes_unseen() {
        for stamped in [true, false] {
            let shape = Shape::new(7, stamped, Some(120));
            let mut reader = Reader::new(&shape);
            let mut line = line(&shape);
            line.pop();
            for at in 0..line.len() {
                for flip in 1..=255_u8 {
                    line[at] ^= flip;
                    assert_eq!(reader.read(&line), None, "byte {at} ^ {flip}");
                    line[at] ^= flip;
                }
                assert_eq!(reader.read(&line[..at]), None, "cut at {at}");
            }
            assert!(reader.read(&line).is_some());
        }
    }

    #[test]
    fn a_server_may_stamp_what_had_no_time() {
        for (stamp, unstamped) in [
            (" 1", true),
            (" 1700000000123456789", true),
            (" ", false),
            (" 12x", false),
            ("x1", false),
            (" 17000000001234567890", false),
        ] {
            for stamped in [true, false] {
                let shape = Shape::new(7, stamped, None);
                let mut line = line(&shape);
                line.pop();
                line.extend_from_slice(stamp.as_bytes());
                let read = Reader::new(&shape).read(&line);
                assert_eq!(read.is_some(), unstamped && !stamped, "{stamp:?}");
            }
        }
    }

    #[test]
    fn lines_of_another_run_are_none_of_ours() {
        let line = line(&Shape::new(7, true, None));
        let other = Shape::new(8, true, None);
        assert_eq!(Reader::new(&other).read(&line[..line.len() - 1]), None);
    }

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!(number(b"1700000000123456789"), Some(SENT));
        assert_eq!(number(b"000000000000000000"), Some(0));
        assert_eq!(
            number(b"9999999999999999999"),
            Some(9_999_999_999_999_999_999)
        );
        for at in 0..19 {
            for byte in (0..=255_u8).filter(|byte| !byte.is_ascii_digit()) {
                let mut digits = *b"1700000000123456789";
                digits[at] = byte;
                assert_eq!(number(&digits), None, "{byte} at {at}");
            }
        }
    }
}
