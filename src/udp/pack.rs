//! Lines, packed into datagrams of at most `mtu` bytes, in the order they came. Pure.
//!
//! A line that is longer than that has a datagram of its own. All datagrams lie in one buffer, one
//! behind the other, so that packing is one copy and sending needs none.

use crate::limits;

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Packed {
    /// It is in a datagram with others, or alone in one of the usual size.
    Within,
    /// It is alone in a datagram larger than `mtu`.
    Over,
    /// No datagram is as large. It was left out.
    TooLong,
}

/// Datagrams on their way to outputs with the same `mtu`.
#[derive(Debug, Default)]
pub struct Pack {
    mtu: usize,
    bytes: Vec<u8>,
    /// Where each datagram ends, and how many lines are in it; the last may take more.
    ends: Vec<usize>,
    lines: Vec<u32>,
    /// Whether the last datagram takes more lines.
    open: bool,
}

impl Pack {
    /// None yet.
    pub fn new(mtu: usize) -> Self {
        Self {
            mtu,
            ..Self::default()
        }
    }

    /// Largest datagram with more than one line.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// Adds the line that these pieces make up, without its newline; `alone` keeps it from others. Once per
    /// line; copies it.
    pub fn add(&mut self, pieces: [&[u8]; 3], alone: bool) -> Packed {
        let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if bytes > limits::udp::PAYLOAD_BYTES_MAX {
            return Packed::TooLong;
        }
        let start = match self.ends.len() {
            0 | 1 => 0,
            count => self.ends[count - 2],
        };
        if !self.open || alone || self.bytes.len() - start + bytes + 1 > self.mtu {
            self.ends.push(0);
            self.lines.push(0);
        }
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
        let is_over = bytes > self.mtu;
        let is_closed = alone || bytes >= self.mtu; // no room for the newline, nor for what it parts
        if !is_closed {
            self.bytes.push(b'\n');
        }
        self.open = !is_closed;
        if let (Some(end), Some(lines)) = (self.ends.last_mut(), self.lines.last_mut()) {
            *end = self.bytes.len();
            *lines += 1;
        }
        match is_over {
            true => Packed::Over,
            false => Packed::Within,
        }
    }

    /// The datagrams, one behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each of them ends.
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// How many lines are in each of them.
    pub fn lines(&self) -> &[u32] {
        &self.lines
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.lines.clear();
        self.open = false;
    }
}

#[cfg(test)]
mod tests {
    use super::{Pack, Packed};
    use crate::limits;

    fn datagrams(pack: &Pack) -> Vec<String> {
        let mut start = 0;
        let each = pack.ends().iter().map(|&end| {
            let text = String::from_utf8(pack.bytes()[start..end].to_vec()).unwrap();
            start = end;
            text
        });
        each.collect()
    }

    fn add(pack: &mut Pack, line: &str) -> Packed {
        pack.add([line.as_bytes(), b"", b""], false)
    }

    #[test]
    fn lines_share_a_datagram_as_long_as_they_fit() {
        let mut pack = Pack::new(10);
        for line in [
            "abcd",
            "efgh",
            "i",
            "klmnopqrst",
            "uvwxyzabc",
            "longer than ten",
            "z",
        ] {
            let is_over = add(&mut pack, line) == Packed::Over;
            assert_eq!(is_over, line.len() > 10, "{line}");
        }
        assert_eq!(
            datagrams(&pack),
            [
                "abcd\nefgh\n",
                "i\n",
                "klmnopqrst",
                "uvwxyzabc\n",
                "longer than ten",
                "z\n"
            ]
        );
        assert_eq!(pack.lines(), [2, 1, 1, 1, 1, 1]);
        pack.clear();
        assert!(pack.ends().is_empty() && pack.bytes().is_empty());
        assert_eq!(add(&mut pack, "a"), Packed::Within);
        assert_eq!(datagrams(&pack), ["a\n"]);
    }

    #[test]
    fn what_is_to_be_alone_is() {
        let mut pack = Pack::new(100);
        add(&mut pack, "a");
        pack.add([b"b=", b" ", b"1"], true);
        add(&mut pack, "c");
        add(&mut pack, "d");
        assert_eq!(datagrams(&pack), ["a\n", "b= 1", "c\nd\n"]);
    }

    #[test]
    fn what_no_datagram_holds_is_left_out() {
        let mut pack = Pack::new(1024);
        let longest = "x".repeat(limits::udp::PAYLOAD_BYTES_MAX);
        assert_eq!(add(&mut pack, &longest), Packed::Over);
        assert_eq!(add(&mut pack, &(longest + "x")), Packed::TooLong);
        assert_eq!(pack.lines(), [1]);
    }

    #[test]
    fn every_mtu_and_length_keeps_order_bytes_and_bounds() {
        for mtu in 1..40 {
            let mut pack = Pack::new(mtu);
            let lines: Vec<String> = (1..60)
                .map(|n| "abcdefg".repeat(9)[..n].to_owned())
                .collect();
            for line in &lines {
                add(&mut pack, line);
            }
            let sent = datagrams(&pack);
            for datagram in &sent {
                assert!(datagram.len() <= mtu || datagram.lines().count() == 1);
            }
            let back: Vec<&str> = sent.iter().flat_map(|datagram| datagram.lines()).collect();
            assert_eq!(back, lines, "mtu {mtu}");
        }
    }
}
