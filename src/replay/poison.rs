//! A body that a backend will not take is halved, line by line, until what it will not take stands
//! alone. Pure.
//!
//! It asks for one request after another and is told what came of each; lines that were taken are
//! done, those that stand alone and were refused are poison. A line is what the line protocol takes
//! for one: a newline within a string ends none.

use crate::payload::line::lines;

/// One part of the body, as byte positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
}

/// The halving of one body.
#[derive(Debug)]
pub struct Halving {
    /// Where each line begins, and where the last ends.
    edges: Vec<usize>,
    /// Ranges of lines that are still to be tried, the first one last.
    todo: Vec<(usize, usize)>,
}

impl Halving {
    /// Of a body that was refused as a whole.
    pub fn new(body: &[u8]) -> Self {
        let mut edges: Vec<usize> = lines(body).collect();
        if edges.is_empty() {
            edges.push(0);
        }
        edges.push(body.len());
        let mut halving = Self {
            todo: Vec::new(),
            edges,
        };
        halving.split(0, halving.edges.len() - 1);
        halving
    }

    /// The part that is to be tried next; `None` when all is known.
    pub fn next(&self) -> Option<Part> {
        let &(from, to) = self.todo.last()?;
        Some(self.part(from, to))
    }

    /// The part that was to be tried was taken.
    pub fn taken(&mut self) {
        self.todo.pop();
    }

    /// It was refused. If it is a line alone, it is poison: here it is.
    pub fn refused(&mut self) -> Option<Part> {
        let (from, to) = self.todo.pop()?;
        if to - from == 1 {
            return Some(self.part(from, to));
        }
        self.split(from, to);
        None
    }

    fn split(&mut self, from: usize, to: usize) {
        if to - from <= 1 {
            self.todo.push((from, to));
            return;
        }
        let middle = from + (to - from) / 2;
        self.todo.push((middle, to));
        self.todo.push((from, middle));
    }

    fn part(&self, from: usize, to: usize) -> Part {
        Part {
            start: self.edges[from],
            end: self.edges[to],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Halving;

    /// Halves `body` before a backend that refuses what holds a line with a `!`.
    fn poison_of(body: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>, usize) {
        let mut halving = Halving::new(body);
        let (mut dead, mut taken, mut tries) = (Vec::new(), Vec::new(), 0);
        while let Some(part) = halving.next() {
            tries += 1;
            let piece = &body[part.start..part.end];
            if !piece.contains(&b'!') {
                taken.extend_from_slice(piece);
                halving.taken();
            } else if let Some(part) = halving.refused() {
                dead.push(body[part.start..part.end].to_vec());
            }
        }
        (dead, taken, tries)
    }

    #[test]
    fn every_set_of_bad_lines_is_found_and_every_good_line_is_delivered_in_order() {
        for lines in 1..=8_usize {
            for bad in 0..1_u32 << lines {
                let line = |i: usize| match bad >> i & 1 {
                    0 => format!("m v={i}\n"),
                    _ => format!("!{i}\n"),
                };
                let body: String = (0..lines).map(line).collect();
                let (dead, taken, tries) = poison_of(body.as_bytes());
                let dead: Vec<String> = dead
                    .into_iter()
                    .map(|line| String::from_utf8(line).unwrap())
                    .collect();
                let expected =
                    |want: u32| (0..lines).filter(move |i| bad >> i & 1 == want).map(line);
                assert_eq!(dead, expected(1).collect::<Vec<_>>());
                assert_eq!(
                    String::from_utf8(taken).unwrap(),
                    expected(0).collect::<String>()
                );
                assert!(tries <= 2 * lines);
            }
        }
    }

    #[test]
    fn one_bad_line_in_many_costs_few_tries() {
        let mut body: Vec<String> = (0..4096).map(|i| format!("m v={i}\n")).collect();
        body[1234] = "!\n".into();
        let (dead, _, tries) = poison_of(body.concat().as_bytes());
        assert_eq!(dead, [b"!\n"]);
        assert!(tries <= 25, "{tries}");
    }

    #[test]
    fn a_newline_in_a_string_ends_no_line() {
        let (dead, taken, _) = poison_of(b"m s=\"a\n!b\"\nm v=1\n");
        assert_eq!(dead, [b"m s=\"a\n!b\"\n"]);
        assert_eq!(taken, b"m v=1\n");
    }
}
