//! What `bench` sends, and when: requests like Telegraf's, and the moments they are due. Pure.
//!
//! Requests are written once, at the start. Per request only the digits of the time are put in, the
//! same for all of its lines, as Telegraf does it; no request is sent twice, and no line comes twice
//! within a request. So the generator costs a copy, and the backend meets points that are all new.

use std::io::Write;

use flate2::{Compress, Compression, Crc, FlushCompress};

use crate::cli::poll::{Nanos, SECOND};

/// Digits of a time in nanoseconds, from 2001 to 2286.
const DIGITS: usize = 19;
/// One-line requests of different series, before the first comes again.
const SERIES_MIN: usize = 64;

/// Requests of one kind to one target.
pub(super) struct Load {
    head: Vec<u8>,
    templates: Vec<Template>,
    turn: usize,
    gzip: Option<Gzip>,
}

/// One body, and where the time's digits stand in the request.
struct Template {
    request: Vec<u8>,
    spots: Vec<usize>,
    /// Where the body begins in `request`.
    body: usize,
}

impl Load {
    /// Requests of `lines` lines each. `head` is a request head but for its length and blank line;
    /// without `stamped` the time is a field and the backend must say when. With `gzip` each request is
    /// compressed as it is sent, which costs the generator what it costs a client.
    pub(super) fn new(head: &str, lines: usize, stamped: bool, gzip: bool) -> Self {
        let count = (SERIES_MIN / lines).max(1);
        let templates = (0..count).map(|turn| Template::new(head, turn * lines, lines, stamped));
        Self {
            head: head.as_bytes().to_vec(),
            templates: templates.collect(),
            turn: 0,
            gzip: gzip.then(Gzip::new),
        }
    }

    /// The next request, as of `wall` nanoseconds since 1970.
    pub(super) fn next(&mut self, wall: Nanos) -> &[u8] {
        self.turn = (self.turn + 1) % self.templates.len();
        let template = &mut self.templates[self.turn];
        let digits = digits(wall);
        for spot in &template.spots {
            template.request[*spot..*spot + DIGITS].copy_from_slice(&digits);
        }
        match &mut self.gzip {
            None => &template.request,
            Some(gzip) => gzip.request(&self.head, &template.request[template.body..]),
        }
    }
}

impl Template {
    fn new(head: &str, first: usize, lines: usize, stamped: bool) -> Self {
        let mut body = Vec::new();
        let mut spots = Vec::new();
        for series in first..first + lines {
            line(&mut body, series, stamped);
            let behind = if stamped { DIGITS + 1 } else { DIGITS + 2 };
            spots.push(body.len() - behind);
        }
        let mut request = head.as_bytes().to_vec();
        write!(request, "Content-Length: {}\r\n\r\n", body.len()).expect("a Vec takes every write");
        let start = request.len();
        request.append(&mut body);
        spots.iter_mut().for_each(|spot| *spot += start);
        Self {
            request,
            spots,
            body: start,
        }
    }
}

/// Appends one line of its own series, about 120 bytes, a zero time at its end.
fn line(body: &mut Vec<u8>, series: usize, stamped: bool) {
    let host = series / 4;
    let value = 10 + series * 7 % 80;
    let written = match series % 4 {
        3 => write!(
            body,
            "disk,device=sda1,fstype=ext4,host=web-{host:05},path=/ \
             used=4{value}2198016i,used_percent={value}.25"
        ),
        cpu => write!(
            body,
            "cpu,cpu=cpu{cpu},host=web-{host:05},region=eu-west \
             usage_idle={value}.125,usage_system=3.5,usage_user=1.75"
        ),
    };
    let time = digits(0);
    let (before, after): (&[u8], &[u8]) = if stamped {
        (b" ", b"\n")
    } else {
        (b",seen=", b"i\n")
    };
    written.expect("a Vec takes every write");
    body.extend_from_slice(before);
    body.extend_from_slice(&time);
    body.extend_from_slice(after);
}

fn digits(mut number: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(number % 10).expect("a digit is below ten");
        number /= 10;
    }
    digits
}

/// A compressor whose buffers are kept.
struct Gzip {
    deflate: Compress,
    packed: Vec<u8>,
    request: Vec<u8>,
}

impl Gzip {
    fn new() -> Self {
        let deflate = Compress::new(Compression::fast(), false);
        Self {
            deflate,
            packed: Vec::new(),
            request: Vec::new(),
        }
    }

    fn request(&mut self, head: &[u8], body: &[u8]) -> &[u8] {
        let mut crc = Crc::new();
        crc.update(body);
        self.deflate.reset();
        self.packed.clear();
        // Stored blocks cost 5 bytes for each 16 KiB at worst (RFC 1951); this is well above that.
        self.packed.reserve(body.len() + body.len() / 64 + 256);
        self.deflate
            .compress_vec(body, &mut self.packed, FlushCompress::Finish)
            .expect("the whole input and room for the whole output are there");
        let length = self.packed.len() + GZIP_HEADER.len() + 8;
        self.request.clear();
        self.request.extend_from_slice(head);
        write!(
            self.request,
            "Content-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
        )
        .expect("a Vec takes every write");
        self.request.extend_from_slice(&GZIP_HEADER);
        self.request.extend_from_slice(&self.packed);
        self.request.extend_from_slice(&crc.sum().to_le_bytes());
        self.request.extend_from_slice(&crc.amount().to_le_bytes());
        &self.request
    }
}

/// RFC 1952: deflate, no name, no time, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// When requests are due. `None` where each connection sends as soon as it has been answered.
pub(super) struct Schedule {
    due: f64,
    gap: f64,
    dice: Option<Dice>,
}

impl Schedule {
    /// `rate` requests a second from `start` on: evenly spaced, or with a `seed` as independent
    /// clients would send them (Poisson).
    pub(super) fn new(start: Nanos, rate: f64, seed: Option<u64>) -> Self {
        let gap = SECOND as f64 / rate;
        Self {
            due: start as f64,
            gap,
            dice: seed.map(Dice),
        }
    }

    /// When the next request is due.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a moment is not negative"
    )]
    pub(super) fn due(&self) -> Nanos {
        self.due as Nanos
    }

    /// That request has been sent, or given up.
    pub(super) fn advance(&mut self) {
        let factor = self.dice.as_mut().map_or(1.0, |dice| -dice.unit().ln());
        self.due += self.gap * factor;
    }
}

/// SplitMix64: the same seed, the same run.
struct Dice(u64);

impl Dice {
    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        ((mixed >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::{Load, Schedule};
    use crate::cli::poll::SECOND;

    const HEAD: &str = "POST /write HTTP/1.1\r\n";
    const WALL: u64 = 1_700_000_000_123_456_789;

    fn split(request: &[u8]) -> (String, Vec<u8>) {
        let blank = request.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
        (
            String::from_utf8(request[..blank].to_vec()).unwrap(),
            request[blank..].to_vec(),
        )
    }

    #[test]
    fn a_request_has_its_lines_its_length_and_its_time() {
        let (head, body) = split(Load::new(HEAD, 1000, true, false).next(WALL));
        assert!(
            head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
            "{head}"
        );
        let body = String::from_utf8(body).unwrap();
        assert!(
            body.lines()
                .all(|line| line.ends_with(" 1700000000123456789")),
            "{body}"
        );
        let series: HashSet<_> = body
            .lines()
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(series.len(), 1000);
        assert!(
            (80_000..=125_000).contains(&body.len()),
            "{} bytes",
            body.len()
        );
    }

    #[test]
    fn without_times_the_field_still_changes() {
        let mut load = Load::new(HEAD, 2, false, false);
        let (_, body) = split(load.next(WALL));
        let body = String::from_utf8(body).unwrap();
        assert!(
            body.lines()
                .all(|line| line.ends_with(",seen=1700000000123456789i")),
            "{body}"
        );
    }

    #[test]
    fn what_is_compressed_is_the_same_body() {
        for lines in [1, 1000] {
            let (head, packed) = split(Load::new(HEAD, lines, true, true).next(WALL));
            assert!(
                head.contains(&format!("gzip\r\nContent-Length: {}\r\n", packed.len())),
                "{head}"
            );
            let mut body = Vec::new();
            GzDecoder::new(&packed[..]).read_to_end(&mut body).unwrap();
            assert_eq!(
                body,
                split(Load::new(HEAD, lines, true, false).next(WALL)).1
            );
        }
    }

    #[test]
    fn an_even_schedule_keeps_its_rate_whatever_the_gap() {
        let mut schedule = Schedule::new(5 * SECOND, 3000.0, None);
        (0..3000).for_each(|_| schedule.advance());
        assert!(
            schedule.due().abs_diff(6 * SECOND) < 10_000,
            "{}",
            schedule.due()
        );
    }

    #[test]
    fn a_seed_is_a_run_and_its_mean_is_the_rate() {
        let run = |seed| {
            let mut schedule = Schedule::new(0, 1000.0, Some(seed));
            (0..100_000)
                .map(|_| {
                    schedule.advance();
                    schedule.due()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7)[..9], run(8)[..9]);
        assert!(run(7).is_sorted());
        assert!(run(7).last().unwrap().abs_diff(100 * SECOND) < 2 * SECOND);
    }
}
