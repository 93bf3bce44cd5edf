//! What an InfluxQL text does: it reads, it writes, or it does nothing. Pure.
//!
//! A text that changes something and is taken for a read reaches one backend, and from then on the
//! backends differ. A read that is taken for a write costs a little work. So all errors go that
//! way: `Reads` and `Nothing` are proven, everything else is `Writes`.
//!
//! ```text
//!  text ─▶ Scanner ─▶ token ─▶ does    the first word of each statement, and words that change
//!             └─ in doubt ──▶ Writes
//! ```
//!
//! Words that change something are reserved: no read has one outside of quotes, comments and
//! regexes. What remains is to know where these begin and end as surely as the servers do. The
//! scanner parts a text as InfluxDB does, and is in doubt where InfluxDB would refuse the text (an
//! open quote, an unknown escape, a strange byte) or another reader could part it in another way.
//! InfluxDB executes nothing of a text that it does not understand to its end, so almost all
//! texts in doubt are texts that do not work.
//!
//! The one byte with three meanings is `/`. What stands before it says which:
//!
//! ```text
//!  behind a value                        a / b, f(x) / 2, /a/ / 2       divides
//!  behind , ( . = =~ !~ SELECT FROM BY   FROM /a/, mean(/a/)            begins a regex
//!  elsewhere                             WHERE /a/, * / 2                doubt
//!  as `/*`, where no regex may begin     a /* b */, ; /* b */            begins a comment
//! ```

use memchr::{memchr, memchr2, memmem};

/// What a query text does to the data or the server it is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Only reads: SELECT without INTO, SHOW, EXPLAIN of such a SELECT. One backend answers.
    Reads,
    /// At least one statement changes something, or may. All backends must get it.
    Writes,
    /// There is no statement: blanks, comments, `;`. Any backend says what it thinks of it.
    Nothing,
}

/// Once per query; linear; allocates nothing.
pub fn does(text: &[u8]) -> Does {
    // To InfluxDB a NUL ends the text.
    if memchr(0, text).is_some() || std::str::from_utf8(text).is_err() {
        return Does::Writes;
    }
    let mut scanner = Scanner::new(text);
    let (mut does, mut place) = (Does::Nothing, Place::Start);
    loop {
        place = match (place, scanner.token()) {
            (Place::Start | Place::Inside, Token::End) => return does,
            (Place::Start | Place::Inside, Token::Semicolon) => Place::Start,
            (Place::Start, Token::Word(word)) if is_any(word, &["SELECT", "SHOW"]) => Place::Inside,
            (Place::Start, Token::Word(word)) if is_any(word, &["EXPLAIN"]) => Place::Explain,
            (Place::Explain, Token::Word(word)) if is_any(word, &["SELECT"]) => Place::Inside,
            (Place::Explain, Token::Word(word)) if is_any(word, &["ANALYZE", "VERBOSE"]) => {
                Place::Explain
            }
            (Place::Inside, Token::Word(word)) if !is_any(word, &CHANGING) => Place::Inside,
            (Place::Inside, Token::Other) => Place::Inside,
            _ => return Does::Writes,
        };
        if place != Place::Start {
            does = Does::Reads;
        }
    }
}

/// Where in a statement a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before its first word.
    Start,
    /// Between `EXPLAIN` and `SELECT`.
    Explain,
    /// In one that reads, so far.
    Inside,
}

/// What matters of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// A bare word: a keyword or a name.
    Word(&'t [u8]),
    /// `;`
    Semicolon,
    /// A value, a quoted name, an operator.
    Other,
    /// The text is over.
    End,
    /// Not sure where it ends, or that it is one.
    Doubt,
}

/// What the token before a `/` makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The end of a value: it divides.
    Value,
    /// Something that a regex may follow.
    Opening,
    /// Something that neither may follow.
    Other,
}

/// Parts a text into its tokens.
pub(super) struct Scanner<'t> {
    rest: &'t [u8],
    before: Before,
}

impl<'t> Scanner<'t> {
    /// At the beginning of a text, which is UTF-8 without a NUL.
    pub(super) fn new(text: &'t [u8]) -> Self {
        Self {
            rest: text,
            before: Before::Other,
        }
    }

    /// The next token, and its bytes.
    pub(super) fn next(&mut self) -> (Token<'t>, &'t [u8]) {
        if !self.skip_blanks() {
            return (Token::Doubt, b"");
        }
        let from = self.rest;
        let token = self.token();
        (token, &from[..from.len() - self.rest.len()])
    }

    /// The next one, behind blanks and comments.
    fn token(&mut self) -> Token<'t> {
        if !self.skip_blanks() {
            return Token::Doubt;
        }
        let rest = self.rest;
        let (len, before) = match *rest {
            [] => return Token::End,
            [b'a'..=b'z' | b'A'..=b'Z' | b'_', ..] => {
                let (word, rest) = rest.split_at(word_len(rest));
                self.rest = rest;
                self.before = before_of(word);
                return Token::Word(word);
            }
            [b';', ..] => {
                self.rest = &rest[1..];
                self.before = Before::Other;
                return Token::Semicolon;
            }
            [quote @ (b'"' | b'\''), ref inside @ ..] => (quoted_len(inside, quote), Before::Value),
            [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => (number_len(rest), Before::Value),
            [b'$', ref name @ ..] => (Some(1 + word_len(name)), Before::Value),
            [b'/', ref inside @ ..] => match self.before {
                Before::Value => (Some(1), Before::Other),
                Before::Opening => (regex_len(inside), Before::Value),
                Before::Other => (None, Before::Other),
            },
            [b')', ..] => (Some(1), Before::Value),
            [b'=' | b'!', b'~', ..] => (Some(2), Before::Opening),
            [b',' | b'(' | b'.' | b'=', ..] => (Some(1), Before::Opening),
            [b'!' | b'<' | b'>', b'=', ..] => (Some(2), Before::Other),
            [b'<' | b'>' | b'+' | b'-' | b'*' | b'%', ..] => (Some(1), Before::Other),
            [b'&' | b'|' | b'^' | b':', ..] => (Some(1), Before::Other),
            _ => (None, Before::Other),
        };
        let Some(len) = len else {
            return Token::Doubt;
        };
        self.rest = &rest[len..];
        self.before = before;
        Token::Other
    }

    /// Skips blanks and comments; false in doubt.
    fn skip_blanks(&mut self) -> bool {
        loop {
            let len = match *self.rest {
                [b' ' | b'\t' | b'\n' | b'\r', ..] => Some(1),
                [b'-', b'-', ..] => line_comment_len(self.rest),
                // A regex never begins with `*`, but some parsers ask for one first, and fail.
                [b'/', b'*', ..] if self.before == Before::Opening => None,
                [b'/', b'*', ref inside @ ..] => memmem::find(inside, b"*/").map(|at| at + 4),
                _ => return true,
            };
            let Some(len) = len else {
                return false;
            };
            self.rest = &self.rest[len..];
        }
    }
}

/// Up to the newline. InfluxDB takes a `\r` for one, others may not.
fn line_comment_len(bytes: &[u8]) -> Option<usize> {
    let end = memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
    matches!(
        bytes[end..],
        [] | [b'\n', ..] | [b'\r'] | [b'\r', b'\n', ..]
    )
    .then_some(end)
}

fn word_len(bytes: &[u8]) -> usize {
    let is_part = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'_';
    bytes.iter().take_while(|byte| is_part(byte)).count()
}

/// A string or a quoted name with both quotes, by what stands behind the first one.
fn quoted_len(inside: &[u8], quote: u8) -> Option<usize> {
    let mut bytes = inside.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'\n' | b'\r' => return None,
            b'\\' => match bytes.next()? {
                (_, b'n' | b'\\' | b'"' | b'\'') => {}
                _ => return None,
            },
            _ if byte == quote => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// A regex with both slashes, by what stands behind the first one.
///
/// To InfluxDB a `\` in front of a `/` escapes it, even a `\` that is escaped itself: `/\\/` is open.
/// Others may take `\\` for a pair; so behind an even number of `\` there is doubt.
fn regex_len(inside: &[u8]) -> Option<usize> {
    let mut escapes = 0_usize;
    for (at, &byte) in inside.iter().enumerate() {
        match byte {
            b'\n' | b'\r' => return None,
            b'/' if escapes == 0 => return Some(at + 2),
            b'/' if escapes.is_multiple_of(2) => return None,
            _ => {}
        }
        escapes = if byte == b'\\' { escapes + 1 } else { 0 };
    }
    None
}

/// A number or a duration: `1`, `.5`, `1.`, `1h30m`, `5µ`.
///
/// Letters belong to it, unless a dot stands before them. Old parsers let them be a word behind
/// their first, which matters for the one word that may stand there.
fn number_len(bytes: &[u8]) -> Option<usize> {
    let digits = |bytes: &[u8]| {
        bytes
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let mut len = digits(bytes);
    if bytes.get(len) == Some(&b'.') {
        return Some(len + 1 + digits(&bytes[len + 1..]));
    }
    loop {
        match bytes[len..] {
            [b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z', ..] => len += 1,
            // U+00B5 and U+03BC.
            [0xC2, 0xB5, ..] | [0xCE, 0xBC, ..] => len += 2,
            _ => break,
        }
    }
    let into = bytes[..len].last_chunk::<4>();
    let is_into = into.is_some_and(|end| end.eq_ignore_ascii_case(b"INTO"));
    (!is_into).then_some(len)
}

/// What a bare word makes of a `/` behind it.
fn before_of(word: &[u8]) -> Before {
    if is_any(word, &["SELECT", "FROM", "BY"]) {
        Before::Opening
    } else if is_any(word, &NO_VALUES) {
        Before::Other
    } else {
        Before::Value
    }
}

pub(super) fn is_any(word: &[u8], keywords: &[&str]) -> bool {
    keywords
        .iter()
        .any(|keyword| word.eq_ignore_ascii_case(keyword.as_bytes()))
}

/// Reserved words with which statements begin that change something, and INTO.
pub(super) const CHANGING: [&str; 10] = [
    "INTO", "CREATE", "DROP", "ALTER", "DELETE", "GRANT", "REVOKE", "SET", "KILL", "INSERT",
];

/// Reserved words that stand before a value, but never before a regex.
const NO_VALUES: [&str; 10] = [
    "WHERE", "AND", "OR", "IN", "ON", "AS", "WITH", "DISTINCT", "SHOW", "EXPLAIN",
];

#[cfg(test)]
mod tests {
    use super::{CHANGING, Does, does};

    fn all(texts: &[&str], want: Does) {
        for text in texts {
            assert_eq!(does(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn selects_read() {
        all(
            &[
                "SELECT * FROM m",
                "select * from m",
                "SeLeCt v FrOm m;",
                "  \t\r\n SELECT v FROM m \r\n",
                "SELECT v FROM m;;",
                ";;SELECT v FROM m",
                "SELECT v FROM \"db\".\"rp\".\"m\"",
                "SELECT v FROM db..m",
                "SELECT \"into\" FROM m",
                "SELECT \"drop\",\"set\" FROM \"create\"",
                "SELECT v FROM m WHERE s = 'x INTO y; DROP DATABASE z'",
                "SELECT v FROM m WHERE s = 'it\\'s; DROP DATABASE z'",
                "SELECT \"a\\\"; DROP DATABASE z\" FROM m",
                "SELECT \"a\\\\\" FROM m",
                "SELECT v FROM m WHERE s = '\\\\' AND t = '\\n'",
                "SELECT v FROM m WHERE s = '\u{b5} \u{1f600}'",
                "SELECT v FROM m -- INTO x; DROP DATABASE z",
                "SELECT v FROM m -- a\r\n WHERE v > 1",
                "SELECT v FROM m -- a\r",
                "SELECT v FROM m /* ; DROP DATABASE z */ WHERE v > 1",
                "/* a */ SELECT v FROM m",
                "-- a\nSELECT v FROM m",
                "SELECT v -- INTO a\n FROM m",
                "SELECT v FROM m WHERE /* a */ v > 1",
                "SELECT (a + b) / 2 FROM m",
                "SELECT a/b, c / d FROM m",
                "SELECT mean(a)/mean(b) FROM m",
                "SELECT 1 / a, .5 / a, 1. / a, 10/5 FROM m",
                "SELECT a::float / \"b\"::integer FROM m",
                "SELECT *::field FROM m",
                "SELECT *::tag, v FROM m",
                "SELECT * FROM /.*/",
                "SELECT * FROM /^(a|b)$/, /c/",
                "SELECT * FROM //",
                "SELECT * FROM db.rp./a/",
                "SELECT * FROM db../a; DROP DATABASE z/",
                "SELECT /v.*/ FROM m",
                "SELECT mean(/v/), max( /w/ ) FROM m GROUP BY /t/, time(1h)",
                "SELECT v FROM m WHERE h =~ /into/ AND g !~ /drop; create/",
                "SELECT v FROM m WHERE h =~ /it's \"one/",
                "SELECT v FROM m WHERE h=~/a\\/b/",
                "SELECT v FROM m WHERE h =~ /a\\\\b\\.c/",
                "SELECT v FROM m WHERE h =~ /a\\\\\\/b/",
                "SELECT v FROM m WHERE h =~ /a/ OR h !~ /b/ / 2",
                "SELECT v FROM m WHERE h =~ /^$host$/ AND time > now() - 1h30m",
                "SELECT v FROM m WHERE h =~ $into AND g = $1drop",
                "SELECT v FROM m WHERE h = $\"into\"",
                "SELECT v FROM m WHERE time > now() - 5\u{b5} AND time < now() + 5\u{3bc}",
                "SELECT v FROM m WHERE a <= 1 AND b >= 2 AND c <> 3 AND d != 4 AND e < 5 AND f > 6",
                "SELECT a & 1, b | 2, c ^ 3, d % 4, -e, +f FROM m",
                "SELECT v FROM m WHERE ok = true / 1",
                "SELECT v FROM (SELECT mean(v) AS v FROM m GROUP BY time(1m))",
                "SELECT v FROM (SELECT v FROM (SELECT v FROM /m/)), n",
                "SELECT DISTINCT v FROM m",
                "SELECT count(distinct(v)) FROM m",
                "SELECT mean(v) FROM m WHERE time > '2020-01-01T00:00:00Z' GROUP BY time(10m, 5m), * fill(none) ORDER BY time DESC LIMIT 1 OFFSET 2 SLIMIT 3 SOFFSET 4 tz('Europe/Berlin')",
                "SELECT v FROM m;SELECT w FROM m",
                "SELECT v FROM m -- one; two\n; SHOW DATABASES",
                "SELECT into_x, xinto, _into, set1 FROM m",
                "SELECT",
            ],
            Does::Reads,
        );
    }

    #[test]
    fn shows_read() {
        all(
            &[
                "SHOW DATABASES",
                "show databases;",
                "SHOW RETENTION POLICIES",
                "SHOW RETENTION POLICIES ON \"x\"",
                "SHOW MEASUREMENTS",
                "SHOW MEASUREMENTS ON x WITH MEASUREMENT =~ /a.*/ WHERE t = 'b' LIMIT 1",
                "SHOW MEASUREMENTS WITH MEASUREMENT = /a/",
                "SHOW MEASUREMENTS WITH MEASUREMENT = \"a\"",
                "SHOW MEASUREMENTS ON *.*",
                "SHOW MEASUREMENT CARDINALITY",
                "SHOW MEASUREMENT EXACT CARDINALITY ON x",
                "SHOW SERIES",
                "SHOW SERIES ON x FROM /m/ WHERE h =~ /a/",
                "SHOW SERIES CARDINALITY",
                "SHOW SERIES EXACT CARDINALITY",
                "SHOW TAG KEYS",
                "SHOW TAG KEYS ON x FROM m",
                "SHOW TAG KEYS WITH KEY IN (a, b)",
                "SHOW TAG KEY CARDINALITY",
                "SHOW TAG VALUES WITH KEY = \"into\"",
                "SHOW TAG VALUES FROM m WITH KEY IN (\"a\",\"b\")",
                "SHOW TAG VALUES WITH KEY =~ /a|into/",
                "SHOW TAG VALUES WITH KEY !~ /drop/ LIMIT 5",
                "SHOW TAG VALUES CARDINALITY WITH KEY = a",
                "SHOW FIELD KEYS",
                "SHOW FIELD KEYS ON x FROM /m/",
                "SHOW FIELD KEY CARDINALITY",
                "SHOW CONTINUOUS QUERIES",
                "SHOW DIAGNOSTICS",
                "SHOW DIAGNOSTICS FOR 'build'",
                "SHOW STATS",
                "SHOW STATS FOR 'indexes'",
                "SHOW QUERIES",
                "SHOW USERS",
                "SHOW GRANTS FOR \"u\"",
                "SHOW SHARDS",
                "SHOW SHARD GROUPS",
                "SHOW SUBSCRIPTIONS",
                "SHOW/* a */DATABASES",
                "SHOW--\nDATABASES",
                "SHOW\rDATABASES",
                "EXPLAIN SELECT v FROM m",
                "explain analyze select v from m",
                "EXPLAIN ANALYZE VERBOSE SELECT v FROM m",
                "EXPLAIN VERBOSE SELECT v FROM m; SHOW DATABASES",
            ],
            Does::Reads,
        );
    }

    #[test]
    fn statements_that_change_something_write() {
        all(
            &[
                "CREATE DATABASE x",
                "create database x",
                "cReAtE dAtAbAsE x",
                "CREATE DATABASE \"x\" WITH DURATION 1d REPLICATION 1 SHARD DURATION 1h NAME \"r\"",
                "CREATE RETENTION POLICY r ON x DURATION 1h REPLICATION 1 DEFAULT",
                "CREATE CONTINUOUS QUERY c ON x BEGIN SELECT mean(v) INTO n FROM m GROUP BY time(1m) END",
                "CREATE USER u WITH PASSWORD 'p' WITH ALL PRIVILEGES",
                "CREATE SUBSCRIPTION s ON x.r DESTINATIONS ALL 'udp://a:1'",
                "ALTER RETENTION POLICY r ON x DURATION 2h",
                "DROP DATABASE x",
                "DROP RETENTION POLICY r ON x",
                "DROP MEASUREMENT m",
                "DROP SERIES FROM m",
                "DROP SERIES WHERE h = 'a'",
                "DROP SHARD 1",
                "DROP CONTINUOUS QUERY c ON x",
                "DROP USER u",
                "DROP SUBSCRIPTION s ON x.r",
                "DELETE FROM m",
                "DELETE WHERE time < now()",
                "DELETE FROM /m/",
                "GRANT READ ON x TO u",
                "GRANT ALL PRIVILEGES TO u",
                "REVOKE WRITE ON x FROM u",
                "REVOKE ALL FROM u",
                "SET PASSWORD FOR u = 'p'",
                "KILL QUERY 1",
                "KILL QUERY 1 ON \"h\"",
                "SELECT v INTO n FROM m",
                "SELECT * into \"db\".\"rp\".:MEASUREMENT FROM /.*/ GROUP BY *",
                "SELECT v INTO\"n\"FROM m",
                "SELECT\nv\nInTo\nn\nFROM\nm",
                "SELECT v/**/INTO/**/n FROM m",
                "SELECT v--\nINTO n FROM m",
                "SELECT \"v\"INTO n FROM m",
                "SELECT 'v'INTO n FROM m",
                "SELECT .5INTO n FROM m",
                "SELECT 1.INTO n FROM m",
                "SELECT 1INTO n FROM m",
                "SELECT 1dINTO n FROM m",
                "SELECT (v)INTO n FROM m",
                "SELECT /v/INTO n FROM m",
                "SELECT $a\"b\"INTO n FROM m",
                "SELECT v FROM (SELECT v INTO n FROM m)",
                "EXPLAIN SELECT v INTO n FROM m",
                "EXPLAIN ANALYZE SELECT v INTO n FROM m",
                "SHOW DATABASES; DROP DATABASE x",
                "SHOW DATABASES;DROP DATABASE x;SHOW DATABASES",
                "DROP DATABASE x; SHOW DATABASES",
                "SELECT v FROM m\n;\nKILL QUERY 1",
                "SHOW DATABASES DROP DATABASE x",
            ],
            Does::Writes,
        );
        for word in CHANGING {
            all(&[word, &format!("SHOW {word}")], Does::Writes);
        }
    }

    #[test]
    fn nothing_hides_a_write() {
        all(
            &[
                "SELECT v FROM m WHERE s = 'a'; DROP DATABASE x --'",
                "SELECT v FROM m WHERE s = 'a\\\\'; DROP DATABASE x --'",
                "SELECT v FROM m WHERE s = \"a\"; DROP DATABASE x --\"",
                "SELECT v FROM m WHERE s = '\"'; DROP DATABASE x --\"",
                "SELECT v FROM m WHERE s = \"'\"; DROP DATABASE x --'",
                "SELECT v FROM m WHERE h =~ /a/; DROP DATABASE x --/",
                "SELECT v FROM m WHERE h =~ /'/; DROP DATABASE x --'",
                "SELECT v FROM m WHERE h =~ /\"/; DROP DATABASE x --\"",
                "SELECT v FROM m WHERE h =~ /--/; DROP DATABASE x",
                "SELECT v FROM m WHERE h =~ /a/*; DROP DATABASE x */",
                "SELECT v FROM m WHERE h =~ /a\\\\/; DROP DATABASE x --/",
                "SELECT v FROM m WHERE h =~ /[/]/; DROP DATABASE x --/",
                "SELECT a/b FROM m; DROP DATABASE x; SELECT a/b FROM m",
                "SELECT mean(a)/2 FROM m; DROP DATABASE x; SELECT 2/a FROM m",
                "SELECT 1./a FROM m; DROP DATABASE x; SELECT a/2 FROM m",
                "SELECT a::float/b FROM m; DROP DATABASE x; SELECT a/2 FROM m",
                "SELECT \"a\"/b FROM m; DROP DATABASE x; SELECT a/2 FROM m",
                "SELECT $a/b FROM m; DROP DATABASE x; SELECT a/2 FROM m",
                "SELECT v FROM m -- a\n; DROP DATABASE x",
                "SELECT v FROM m -- a\r; DROP DATABASE x",
                "SELECT v FROM m -- a\r/*\n; DROP DATABASE x --*/",
                "SELECT v FROM m -- '\n; DROP DATABASE x --'",
                "SELECT v FROM m -- /*\n; DROP DATABASE x --*/",
                "SELECT v FROM m /* a */; DROP DATABASE x",
                "SELECT v FROM m /* /* a */; DROP DATABASE x --*/",
                "SELECT v FROM m /**/; DROP DATABASE x /**/",
                "SELECT v FROM m /***/; DROP DATABASE x /**/",
                "SELECT v FROM m /* -- */; DROP DATABASE x",
                "SELECT v FROM m /* ' */; DROP DATABASE x /* ' */",
                "/*/ */ DROP DATABASE x",
                "-- a\nDROP DATABASE x",
                "--\rDROP DATABASE x",
                ";;;DROP DATABASE x",
                ";/**/;--\n;DROP DATABASE x",
                "\t\r\nDROP\tDATABASE\rx",
            ],
            Does::Writes,
        );
    }

    #[test]
    fn doubt_writes() {
        all(
            &[
                "SELECT 'v FROM m",
                "SELECT \"v FROM m",
                "SELECT 'v\n' FROM m",
                "SELECT 'v\r' FROM m",
                "SELECT \"v\n\" FROM m",
                "SELECT '\\t' FROM m",
                "SELECT '\\",
                "SELECT v FROM /m",
                "SELECT v FROM /m\n/",
                "SELECT v FROM /m\r/",
                "SELECT v FROM /m\\/",
                "SELECT v FROM /m\\\\/",
                "SELECT v FROM m /* a",
                "SELECT v FROM m /*/",
                "/*",
                "SELECT /* a */ v FROM m",
                "SELECT v FROM /* a */ m",
                "SELECT f(/* a */ v) FROM m",
                "SELECT * / 2 FROM m",
                "SELECT v FROM m WHERE /a/",
                "SELECT v FROM m WHERE a != /a/",
                "SELECT v FROM m WHERE a < /a/",
                "SELECT v FROM m WHERE a ! b",
                "SELECT v FROM m WHERE a ~ b",
                "SELECT v FROM m\0",
                "\0",
                "SELECT v FROM m WHERE a = '\0'",
                "SELECT v FROM m \u{b}",
                "SELECT v FROM gr\u{f6}\u{df}e",
                "\u{feff}SELECT v FROM m",
                "\u{a0}SELECT v FROM m",
                "SELECT v FROM m WHERE a = \u{2018}b\u{2019}",
                "SELECT \u{3c0} FROM m",
                "SELECT `v` FROM m",
                "SELECT [v] FROM {m}",
                "SELECT v FROM m # a",
                "SELECT v \\ FROM m",
                "\u{17f}ELECT v FROM m",
                "\"SELECT\" v FROM m",
                "'SELECT' v FROM m",
                "$SELECT v FROM m",
                "(SELECT v FROM m)",
                "1SELECT v FROM m",
                "SELECTv FROM m",
                "SELECT_ v FROM m",
                "/SELECT/ v FROM m",
                "EXPLAIN",
                "EXPLAIN; SELECT v FROM m",
                "EXPLAIN ANALYZE",
                "EXPLAIN SHOW DATABASES",
                "EXPLAIN (SELECT v FROM m)",
                "INSERT m v=1",
                "USE x",
                "BEGIN",
                "from(bucket:\"x\") |> range(start:-1h)",
            ],
            Does::Writes,
        );
        assert_eq!(does(b"SELECT v FROM m WHERE a = '\xff'"), Does::Writes);
        assert_eq!(does(b"\xc2"), Does::Writes);
    }

    #[test]
    fn no_statement_is_nothing() {
        let texts = [
            "",
            " ",
            "\t\r\n",
            ";",
            " ; ;; ",
            "-- a",
            "--",
            "-- DROP DATABASE x",
            "/**/",
            "/* DROP DATABASE x */",
            "/* a */;-- b\n;",
            "-- a\r\n-- b\r\n",
        ];
        all(&texts, Does::Nothing);
    }

    /// Whatever the bytes: no panic, and a write behind a `;` in plain sight is seen.
    #[test]
    fn a_storm_of_fragments() {
        const FRAGMENTS: [&[u8]; 32] = [
            b"SELECT ",
            b" FROM ",
            b"SHOW ",
            b"EXPLAIN ",
            b" INTO ",
            b"DROP ",
            b"m",
            b"'",
            b"\"",
            b"/",
            b"\\",
            b"*",
            b"-",
            b"--",
            b"/*",
            b"*/",
            b"\n",
            b"\r",
            b";",
            b"(",
            b")",
            b",",
            b".",
            b"1",
            b"1.",
            b"=~",
            b"!",
            b"$",
            b":",
            b"\xc2\xb5",
            b"\xff",
            b"\0",
        ];
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..100_000 {
            let mut text = Vec::new();
            for _ in 0..12 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                text.extend_from_slice(FRAGMENTS[usize::try_from(seed % 32).unwrap()]);
                does(&text);
            }
            // Understood so far: then a statement behind it is one.
            if does(&text) != Does::Writes {
                text.extend_from_slice(b"\n;DROP DATABASE x");
                assert_eq!(does(&text), Does::Writes, "{text:?}");
            }
        }
    }
}
