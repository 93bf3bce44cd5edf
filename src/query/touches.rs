//! What an InfluxQL text touches: which databases, and by which right. Pure.
//!
//! Somebody who may read `a` must not read `b` by naming it in a query of `a`. So what is allowed is
//! proven, as in `influxql`: each statement touches the request's own database, those it
//! names, or, where that is not certain, all of them. A name counts wherever it could be one, even where
//! the servers would refuse the text; so what is missed is a statement that does not work.
//!
//! ```text
//!  SELECT, EXPLAIN SELECT     Read: own, and each "db"."rp"."m" or db..m; with INTO: Admin
//!  SHOW MEASUREMENTS, SERIES, TAG …, FIELD …, RETENTION POLICIES
//!                             Read: own, or the ones behind ON
//!  SHOW DATABASES, QUERIES, CONTINUOUS QUERIES              Read: all
//!  DELETE, DROP MEASUREMENT, DROP SERIES                    Admin: own
//!  CREATE, ALTER, DROP of a retention policy or a continuous query    Admin: the one behind ON
//!  CREATE DATABASE x, DROP DATABASE x                       Admin: x
//!  all else                                                 Admin: all
//! ```

use memchr::memchr;

use crate::access::rights::Right;
use crate::limits::access::NAMED_MAX;
use crate::query::influxql::{CHANGING, Does, Scanner, Token, does, is_any};

/// What a text needs: a right on a database; `None` is on all.
pub type Need<'t> = (Right, Option<&'t [u8]>);

/// What a text needs that is asked of `own`, each thing once. `None` is no database, or one that is not
/// certain. Once per query; linear; what it holds is bounded.
pub fn needs<'t>(text: &'t [u8], own: Option<&'t [u8]>) -> Vec<Need<'t>> {
    let all = vec![(Right::Admin, None)];
    if memchr(0, text).is_some() || std::str::from_utf8(text).is_err() {
        return all;
    }
    let mut scanner = Scanner::new(text);
    let mut needs = Vec::new();
    let mut statement = Statement::default();
    let mut is_over = false;
    while !is_over {
        match scanner.next() {
            (Token::Doubt, _) => return all,
            (token @ (Token::End | Token::Semicolon), _) => {
                is_over = token == Token::End;
                std::mem::take(&mut statement).end(own, &mut needs);
            }
            (Token::Word(word), _) => statement.word(word),
            (Token::Other, bytes) => statement.other(bytes),
        }
        if needs.len() > NAMED_MAX || statement.names.len() > NAMED_MAX {
            return all;
        }
    }
    let changes = needs.iter().any(|(right, _)| *right == Right::Admin);
    if does(text) == Does::Writes && !changes {
        return all; // they disagree
    }
    needs
}

/// What a statement is, as far as its first words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    /// No word yet.
    #[default]
    Empty,
    /// `EXPLAIN`, and what may stand behind it.
    Explain,
    Select,
    Show,
    Create,
    Alter,
    Drop,
    /// With this right, on its own database, or on those behind `ON`.
    Own(Right),
    /// With this right, on those behind `ON`.
    On(Right),
    /// With this right, on the one named next.
    Named(Right),
    /// With this right, on all.
    All(Right),
}

/// What a token is awaited to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Awaited {
    #[default]
    Anything,
    /// A database: its name, and nothing else.
    Database,
    /// What may follow the name of a database that is created or dropped.
    WithOrEnd,
}

/// Names with dots between them.
#[derive(Debug, Clone, Copy, Default)]
struct Chain<'t> {
    /// The first of them, if it is certain.
    first: Option<&'t [u8]>,
    dots: usize,
    /// Whether its last token was a dot.
    is_open: bool,
}

/// One statement, as far as it has been read.
#[derive(Debug, Default)]
struct Statement<'t> {
    kind: Kind,
    /// Databases that it names; `None` is one that is not certain.
    names: Vec<Option<&'t [u8]>>,
    chain: Chain<'t>,
    awaited: Awaited,
    has_on: bool,
    /// `SELECT INTO`.
    changes: bool,
}

impl<'t> Statement<'t> {
    fn word(&mut self, word: &'t [u8]) {
        let is_part = self.chain.is_open;
        self.segment(Some(word));
        match std::mem::take(&mut self.awaited) {
            Awaited::Database => return self.named(Some(word)),
            Awaited::WithOrEnd if !is_any(word, &["WITH"]) => self.name(None),
            _ => {}
        }
        if is_part {
            return; // `a.on` is a name
        }
        self.kind = match self.kind {
            Kind::Empty => first_word(word),
            Kind::Explain if is_any(word, &["SELECT"]) => Kind::Select,
            Kind::Explain if is_any(word, &["ANALYZE", "VERBOSE"]) => Kind::Explain,
            Kind::Explain => Kind::All(Right::Admin),
            Kind::Show => shown(word),
            Kind::Create | Kind::Alter | Kind::Drop => {
                let kind = changed(self.kind, word);
                if matches!(kind, Kind::Named(_)) {
                    self.awaited = Awaited::Database;
                }
                kind
            }
            kind @ (Kind::Select | Kind::Own(Right::Read)) if is_any(word, &CHANGING) => {
                self.changes = true;
                match kind {
                    Kind::Select if is_any(word, &["INTO"]) => kind,
                    _ => Kind::All(Right::Admin), // another statement, without a `;`
                }
            }
            kind => kind,
        };
        if is_any(word, &["ON"]) {
            self.has_on = true;
            self.awaited = Awaited::Database;
        }
    }

    fn other(&mut self, bytes: &'t [u8]) {
        match bytes {
            [b'.', rest @ ..] => {
                self.chain.dots += 1;
                self.chain.is_open = true;
                if !rest.is_empty() {
                    self.chain.first = None; // `.5`
                    self.chain.is_open = false;
                }
            }
            [b'"', inside @ .., b'"'] => {
                let is_plain = memchr(b'\\', inside).is_none() && !inside.is_empty();
                self.segment(is_plain.then_some(inside));
            }
            [b'/' | b'$' | b'\'', ..] => self.segment(None),
            [b'0'..=b'9', ..] => {
                self.segment(None);
                self.chain.dots += bytes.iter().filter(|&&byte| byte == b'.').count();
            }
            _ => self.close(),
        }
        match std::mem::take(&mut self.awaited) {
            Awaited::Anything => {}
            Awaited::WithOrEnd => self.name(None),
            Awaited::Database => {
                let is_name = bytes.len() > 2 && bytes.starts_with(b"\"");
                let first = self.chain.first.filter(|_| is_name);
                self.named(first);
            }
        }
    }

    /// The name of a database that was awaited.
    fn named(&mut self, name: Option<&'t [u8]>) {
        self.name(name);
        if matches!(self.kind, Kind::Named(_)) {
            self.awaited = Awaited::WithOrEnd;
        }
    }

    /// A part of a chain: the next, or the first of a new one.
    fn segment(&mut self, name: Option<&'t [u8]>) {
        if self.chain.is_open {
            self.chain.is_open = false;
            return;
        }
        self.close();
        self.chain.first = name;
    }

    /// The chain is over: with two dots it names a database.
    fn close(&mut self) {
        let chain = std::mem::take(&mut self.chain);
        match chain.dots {
            0 | 1 => {}
            2 => self.name(chain.first),
            _ => self.name(None),
        }
    }

    fn name(&mut self, name: Option<&'t [u8]>) {
        if !self.names.contains(&name) {
            self.names.push(name);
        }
    }

    /// Adds what it needs.
    fn end(mut self, own: Option<&'t [u8]>, needs: &mut Vec<Need<'t>>) {
        self.close();
        if self.awaited == Awaited::Database {
            self.name(None);
        }
        let (right, first) = match self.kind {
            Kind::Empty => return,
            Kind::Select => (Right::Read, Some(own)),
            Kind::Own(right) => (right, (!self.has_on).then_some(own)),
            Kind::On(right) => (right, (!self.has_on).then_some(None)),
            Kind::Named(right) => (right, None),
            Kind::All(right) => (right, Some(None)),
            Kind::Explain | Kind::Show | Kind::Create | Kind::Alter | Kind::Drop => {
                (Right::Admin, Some(None))
            }
        };
        let right = if self.changes { Right::Admin } else { right };
        for name in first.into_iter().chain(self.names) {
            if !needs.contains(&(right, name)) {
                needs.push((right, name));
            }
        }
    }
}

fn first_word(word: &[u8]) -> Kind {
    let kinds = [
        ("SELECT", Kind::Select),
        ("EXPLAIN", Kind::Explain),
        ("SHOW", Kind::Show),
        ("DELETE", Kind::Own(Right::Admin)),
        ("CREATE", Kind::Create),
        ("ALTER", Kind::Alter),
        ("DROP", Kind::Drop),
    ];
    let found = kinds.iter().find(|(name, _)| is_any(word, &[name]));
    found.map_or(Kind::All(Right::Admin), |(_, kind)| *kind)
}

fn shown(word: &[u8]) -> Kind {
    match word {
        _ if is_any(word, &["MEASUREMENTS", "MEASUREMENT", "SERIES"]) => Kind::Own(Right::Read),
        _ if is_any(word, &["TAG", "FIELD", "RETENTION"]) => Kind::Own(Right::Read),
        _ if is_any(word, &["DATABASES", "QUERIES", "CONTINUOUS"]) => Kind::All(Right::Read),
        _ => Kind::All(Right::Admin),
    }
}

fn changed(kind: Kind, word: &[u8]) -> Kind {
    match kind {
        _ if is_any(word, &["RETENTION"]) => Kind::On(Right::Admin),
        Kind::Create | Kind::Drop if is_any(word, &["CONTINUOUS"]) => Kind::On(Right::Admin),
        Kind::Create | Kind::Drop if is_any(word, &["DATABASE"]) => Kind::Named(Right::Admin),
        Kind::Drop if is_any(word, &["MEASUREMENT", "SERIES"]) => Kind::Own(Right::Admin),
        _ => Kind::All(Right::Admin),
    }
}

#[cfg(test)]
mod tests {
    use super::needs;
    use crate::access::rights::Right::{self, Admin, Read};
    use crate::limits::access::NAMED_MAX;
    use crate::query::influxql::{Does, does};

    /// Needs as `R:own A:*`.
    fn said(text: &str) -> String {
        let needs = needs(text.as_bytes(), Some(b"own"));
        let word = |(right, name): &(Right, Option<&[u8]>)| {
            let letter = match right {
                Read => "R",
                Admin => "A",
                Right::Write => "W",
            };
            let name = name.map_or("*".into(), String::from_utf8_lossy);
            format!("{letter}:{name}")
        };
        needs.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    fn all(table: &[(&str, &str)]) {
        for (text, want) in table {
            assert_eq!(said(text), *want, "{text}");
        }
    }

    #[test]
    fn a_select_touches_its_own_and_what_it_names() {
        all(&[
            ("", ""),
            (" ; -- x\n;", ""),
            ("SELECT * FROM m", "R:own"),
            (
                "SELECT mean(\"v\") FROM \"rp\".\"m\" WHERE h =~ /^b\\/c$/",
                "R:own",
            ),
            ("SELECT a.b FROM m", "R:own"),
            ("SELECT * FROM \"b\".\"rp\".\"m\"", "R:own R:b"),
            ("SELECT * FROM b..m", "R:own R:b"),
            ("SELECT * FROM b.rp.m, c..m, b..n", "R:own R:b R:c"),
            ("SELECT * FROM \"b\" /* x */ . \"rp\" .\n/m.*/", "R:own R:b"),
            ("SELECT * FROM b../m/", "R:own R:b"),
            (
                "SELECT * FROM (SELECT v FROM (SELECT v FROM b..m))",
                "R:own R:b",
            ),
            ("SELECT * FROM m; SELECT * FROM b..m", "R:own R:b"),
            ("EXPLAIN ANALYZE SELECT * FROM b..m", "R:own R:b"),
            ("SELECT * FROM m WHERE s = 'x FROM b..m'", "R:own"),
            ("SELECT * FROM m -- b..m", "R:own"),
            ("SELECT \"b..m\" FROM m", "R:own"),
            ("SELECT * FROM $d..m", "R:own R:*"),
            ("SELECT * FROM \"a\\\"b\"..m", "R:own R:*"),
            ("SELECT * FROM \"\"..m", "R:own R:*"),
            ("SELECT * FROM a.b.c.d", "R:own R:*"),
            ("SELECT * FROM b.5.m.n", "R:own R:*"),
            ("SELECT 1..m FROM n", "R:own R:*"),
            ("SELECT * FROM 'b'..m", "R:own R:*"),
            ("SELECT 1.5 / 2. FROM m", "R:own"),
            ("SELECT v FROM on..m", "R:own R:* R:on"),
            ("SELECT * FROM m ON b", "R:own R:b"),
        ]);
    }

    #[test]
    fn select_into_changes_what_it_names() {
        all(&[
            ("SELECT * INTO n FROM m", "A:own"),
            ("SELECT * INTO b..n FROM m", "A:own A:b"),
            (
                "SELECT * INTO \"b\".\"rp\".:MEASUREMENT FROM /.*/",
                "A:own A:b",
            ),
            ("SELECT * INTO n FROM b..m", "A:own A:b"),
            ("SELECT v FROM m; SELECT * INTO n FROM m", "R:own A:own"),
        ]);
    }

    #[test]
    fn shows_touch_their_own_or_those_behind_on() {
        all(&[
            ("SHOW MEASUREMENTS", "R:own"),
            ("SHOW MEASUREMENTS ON b", "R:b"),
            ("SHOW MEASUREMENTS ON \"b\" LIMIT 1", "R:b"),
            ("SHOW MEASUREMENTS ON b.rp", "R:b"),
            ("SHOW MEASUREMENTS ON *.*", "R:*"),
            ("SHOW MEASUREMENTS ON", "R:*"),
            ("SHOW MEASUREMENTS ON 'b'", "R:*"),
            ("SHOW MEASUREMENTS ON $b", "R:*"),
            ("SHOW MEASUREMENTS ON \"a\\\"\"", "R:*"),
            (
                "SHOW TAG VALUES ON b FROM c..m WITH KEY = \"on\"",
                "R:b R:c",
            ),
            ("SHOW SERIES FROM \"b\".\"rp\".\"m\"", "R:own R:b"),
            ("SHOW FIELD KEY CARDINALITY", "R:own"),
            ("SHOW RETENTION POLICIES ON b", "R:b"),
            ("SHOW DATABASES", "R:*"),
            ("SHOW CONTINUOUS QUERIES", "R:*"),
            ("SHOW USERS", "A:*"),
            ("SHOW GRANTS FOR u", "A:*"),
            ("SHOW", "A:*"),
            ("SHOW STATS; SHOW SERIES", "A:* R:own"),
        ]);
    }

    #[test]
    fn changes_touch_what_they_are_on() {
        all(&[
            ("DELETE FROM m WHERE time < 5", "A:own"),
            ("DROP MEASUREMENT m", "A:own"),
            ("DROP SERIES FROM b..m", "A:own A:b"),
            ("CREATE DATABASE b", "A:b"),
            ("create database \"b\" with duration 1d name \"on\"", "A:b"),
            ("CREATE DATABASE IF NOT EXISTS b", "A:IF A:*"),
            ("CREATE DATABASE $b", "A:*"),
            ("CREATE DATABASE", "A:*"),
            ("DROP DATABASE b", "A:b"),
            ("DROP DATABASE b c", "A:b A:*"),
            ("DROP DATABASE b . c", "A:b A:*"),
            (
                "CREATE RETENTION POLICY r ON b DURATION 1h REPLICATION 1",
                "A:b",
            ),
            ("CREATE RETENTION POLICY r", "A:*"),
            ("ALTER RETENTION POLICY r ON b DEFAULT", "A:b"),
            ("ALTER DATABASE b", "A:*"),
            ("DROP RETENTION POLICY \"r\" ON \"b\"", "A:b"),
            (
                "CREATE CONTINUOUS QUERY q ON b BEGIN SELECT mean(v) INTO c..n FROM m GROUP BY time(1m) END",
                "A:b A:c",
            ),
            ("DROP CONTINUOUS QUERY q ON b", "A:b"),
            ("GRANT READ ON own TO u", "A:* A:own"),
            ("CREATE USER u WITH PASSWORD 'p'", "A:*"),
            ("DROP USER u", "A:*"),
            ("SET PASSWORD FOR u = 'p'", "A:*"),
            ("KILL QUERY 1", "A:*"),
            (
                "CREATE SUBSCRIPTION s ON own.r DESTINATIONS ALL 'udp://a:1'",
                "A:* A:own",
            ),
            ("DROP SHARD 1", "A:*"),
            ("INSERT x", "A:*"),
            ("SELECT v FROM m; DROP DATABASE b", "R:own A:b"),
            ("SHOW SERIES DROP DATABASE b", "A:*"),
            ("SELECT v FROM m DROP DATABASE b", "A:*"),
            ("SHOW SERIES INTO n", "A:*"),
            ("EXPLAIN DROP DATABASE b", "A:*"),
            ("SELECT 'open", "A:*"),
            ("SELECT \u{1}", "A:*"),
            ("SELECT v\0", "A:*"),
        ]);
    }

    #[test]
    fn without_a_database_of_its_own_it_touches_all() {
        for (text, want) in [
            ("SELECT * FROM m", (Read, None)),
            ("DELETE FROM m", (Admin, None)),
            ("SHOW SERIES", (Read, None)),
        ] {
            assert_eq!(needs(text.as_bytes(), None), [want], "{text}");
        }
        let on: &[u8] = b"b";
        assert_eq!(needs(b"SHOW SERIES ON b", None), [(Read, Some(on))]);
    }

    #[test]
    fn what_names_too_much_touches_all() {
        let many: String = (0..=NAMED_MAX).map(|n| format!(", d{n}..m")).collect();
        assert_eq!(said(&format!("SELECT * FROM m{many}")), "A:*");
        let many: String = (0..=NAMED_MAX)
            .map(|n| format!("SHOW SERIES ON d{n};"))
            .collect();
        assert_eq!(said(&many), "A:*");
    }

    const PIECES: [&str; 40] = [
        "SELECT",
        "SHOW",
        "FROM",
        "ON",
        "INTO",
        "DROP",
        "CREATE",
        "DATABASE",
        "SERIES",
        "TAG",
        "m",
        "other",
        "\"other\"",
        "'other'",
        "/other/",
        "$other",
        ".",
        "..",
        ",",
        ";",
        "(",
        ")",
        "*",
        "=",
        "=~",
        "/",
        "1",
        ".5",
        "1.",
        "-- x\n",
        "/* x */",
        "\n",
        "WITH",
        "KEY",
        "WHERE",
        "EXPLAIN",
        "DELETE",
        "GRANT",
        ":",
        "MEASUREMENTS",
    ];

    /// Texts of random tokens: whoever may nothing but read `own` gets nothing past that says another name
    /// where a name of a database may stand.
    #[test]
    fn a_storm_of_tokens_smuggles_no_name() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut roll = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % below as u64).unwrap()
        };
        let mut read_own = 0;
        for _ in 0..200_000 {
            let mut text = String::from(["SELECT v FROM ", "SHOW ", ""][roll(3)]);
            for _ in 0..roll(12) {
                text.push_str(PIECES[roll(PIECES.len())]);
                text.push_str(["", " "][roll(2)]);
            }
            let needs = needs(text.as_bytes(), Some(b"own"));
            if needs.iter().any(|need| *need != (Read, Some(&b"own"[..]))) {
                continue;
            }
            read_own += 1;
            assert_ne!(does(text.as_bytes()), Does::Writes, "{text}");
            let bare: String = text
                .replace("-- x\n", " ")
                .replace("/* x */", " ")
                .to_ascii_lowercase()
                .split_whitespace()
                .collect();
            for name in ["other", "\"other\""] {
                assert!(!bare.contains(&format!("{name}..")), "{text}");
            }
        }
        assert!(read_own > 1000, "the storm reads: {read_own}");
    }
}
