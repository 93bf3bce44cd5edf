//! Property: no text that passes for a read changes anything in a real `influxd`.
//!
//! Each text is built to sneak a statement past the scanner: one that is right, with bait in its
//! quotes, comments and regexes, and then a few fragments put in, taken out or swapped, so that
//! some of the bait comes into the open. `SEED=<n>` repeats a run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use influxdb_relay::http::target::encode;
use influxdb_relay::query::form::{Body, query_text};
use influxdb_relay::query::influxql::{Does, does};

use crate::client::{Answer, Client};
use crate::influxd::Influxd;

const TEXTS: u64 = 6000;

/// A seeded choice.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % sides
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len())]
    }
}

fn seed() -> u64 {
    std::env::var("SEED").map_or(7, |seed| seed.parse().unwrap())
}

/// What tokens are made of, and where they begin and end.
const FRAGMENTS: [&str; 60] = [
    "'", "\"", "/", "\\", "\\'", "\\\"", "\\\\", "\\/", "\\n", "\n", "\r", "\r\n", ";", "--", "-",
    "/*", "*/", "*", "/**/", "/*/", "//", "(", ")", ",", ".", "1.", ".5", "1", "1h", "5\u{b5}",
    "5\u{3bc}", "=~", "!~", "=", "!=", "::", ":", "$", "$x", " ", "\t", "a", "\"a\"", "'a'", "/a/",
    "+", "--\n", "--\r", "-- '\n", "/* ' */", "/* / */", " SELECT ", " FROM ", " WHERE ", " BY ",
    " AS ", "\u{a0}", "\u{c}", "\u{feff}", "\u{2028}",
];

/// What hides what follows it, or shows it.
const CLOSERS: [&str; 26] = [
    "", "", "'", "\"", "/", "*/", "\n", "\r", "\r\n", "\\'", "\\\"", "\\/", "\\\\'", "\\\\\"",
    "\\\\/", "\\", ")", "' ", "*", "/*", "--", "'--\n", "**/", "/ 2", "//", "-",
];

/// What ends the text after the bait so that the rest is right, or is hidden again.
const OPENERS: [&str; 22] = [
    "",
    "",
    "--",
    "/*",
    "'",
    "\"",
    "/",
    "--'",
    "--\"",
    "--/",
    "--*/",
    "/*'*/",
    "SHOW DATABASES--",
    "SELECT '",
    "SELECT \"",
    "SELECT /",
    "SELECT v FROM m WHERE s='",
    "SELECT v FROM m WHERE s=~/",
    "SELECT v FROM \"",
    "SELECT v/",
    "SELECT v FROM m--",
    "\n",
];

/// One text as its pieces.
struct Text<'d> {
    dice: &'d mut Dice,
    bait: String,
    into: String,
    pieces: Vec<String>,
    /// Whether this is the list of a `SELECT`.
    lists: bool,
    /// Whether the rest is left out.
    is_over: bool,
}

impl Text<'_> {
    fn put(&mut self, pieces: &[&str]) {
        if !self.is_over {
            self.pieces.extend(pieces.iter().map(|&piece| piece.into()));
        }
    }

    fn put_one(&mut self, choices: &[&str]) {
        let piece = self.dice.of(choices);
        self.put(&[piece]);
    }

    /// A statement, with what may hide it around it, within something that `end` ends.
    fn bait(&mut self, end: &str) {
        let bait = if self.dice.roll(4) == 0 {
            self.into.clone()
        } else {
            self.bait.clone()
        };
        let mut hides_until = end;
        if self.dice.roll(3) > 0 {
            // Something that may look like the end, and then what would hide the bait.
            self.put_one(&["", "", "\\", "\\\\", "*", "-", "/", "\r", "1."]);
            if self.dice.roll(2) == 0 {
                self.put(&[end]);
            }
            if self.dice.roll(2) == 0 {
                let pairs = [
                    ("'", "'"),
                    ("\"", "\""),
                    ("/*", "*/"),
                    ("/", "/"),
                    ("--", "\n"),
                ];
                let (open, close) = pairs[self.dice.roll(pairs.len())];
                self.put(&[open]);
                hides_until = close;
            }
            self.put(&[end]);
        } else {
            self.put_one(&CLOSERS);
        }
        if self.lists && self.dice.roll(8) > 0 {
            self.put(&[" FROM m"]);
        }
        self.put_one(&[";", "; ", ";", "\n;", " "]);
        self.put(&[&bait]);
        match self.dice.roll(4) {
            0 => {
                self.put_one(&[";", " ", ""]);
                self.put_one(&OPENERS);
            }
            1 | 2 => {
                self.put_one(&["--", " --", ";--", ";SELECT v FROM m--"]);
                self.put(&[hides_until]);
                self.is_over = true;
            }
            _ => {
                self.put_one(&[
                    "",
                    ";SELECT v FROM m",
                    ";SELECT v/v FROM m",
                    ";SELECT v FROM /m/",
                ]);
                self.is_over = true;
            }
        }
    }

    fn blank(&mut self) {
        self.put_one(&[" ", " ", " ", " ", "\n", "\t", "\r\n", "  ", "\n--\n"]);
    }

    /// Where a comment of either kind may stand.
    fn gap(&mut self) {
        match self.dice.roll(12) {
            0 => {
                self.put(&["/*"]);
                self.bait("*/");
                self.put(&["*/"]);
            }
            1 => {
                self.put(&["--"]);
                let end = self.dice.of(&["\n", "\r\n", "\r"]);
                self.bait(end);
                self.put(&[end]);
            }
            _ => self.blank(),
        }
    }

    fn quoted(&mut self, quote: &str, end: &str) {
        self.put(&[quote]);
        if self.dice.roll(4) == 0 {
            self.bait(end);
        } else {
            self.put_one(&[
                "v", "", "a b", "a\\'b", "a\\\"b", "\\\\", "\\n", "--", "*", "m",
            ]);
        }
        self.put(&[end]);
    }

    fn regex(&mut self) {
        self.put(&["/"]);
        if self.dice.roll(4) == 0 {
            self.bait("/");
        } else {
            self.put_one(&[
                ".*", "m", "a\\/b", "it's", "\"", "--", "\\\\", "[a-z]", "", "(m|n)",
            ]);
        }
        self.put(&["/"]);
    }

    fn value(&mut self) {
        match self.dice.roll(10) {
            0 => self.quoted("'", "'"),
            1 => self.quoted("\"", "\""),
            2 => {
                self.put_one(&["mean(", "(", "max( "]);
                self.value();
                self.put(&[")"]);
            }
            3 => {
                self.value();
                self.put_one(&["/", " / ", "/ ", "+", "-", "*", "%"]);
                self.value();
            }
            4 => self.put_one(&[
                "1", "1.", ".5", "2.5", "1h", "1h30m", "5\u{b5}", "$a", "true",
            ]),
            5 => self.put_one(&["v::float", "\"v\"::float", "*", "*::field", "s"]),
            _ => self.put(&["v"]),
        }
    }

    fn select(&mut self, depth: usize) {
        self.put(&["SELECT"]);
        self.lists = true;
        self.blank();
        if self.dice.roll(6) == 0 {
            self.regex();
        } else {
            self.value();
        }
        self.gap();
        if self.dice.roll(12) == 0 {
            let into = self.into.clone();
            let target = into.split(' ').nth(3).unwrap();
            self.put_one(&["INTO ", "into\t", "InTo\n", "INTO/**/", "INTO--\n"]);
            self.put(&[target, " "]);
        }
        self.put(&["FROM"]);
        self.lists = false;
        self.blank();
        match self.dice.roll(6) {
            0 => self.regex(),
            1 => self.quoted("\"", "\""),
            2 if depth < 2 => {
                self.put(&["("]);
                self.select(depth + 1);
                self.put(&[")"]);
            }
            3 => self.put_one(&["x..m", "x.autogen.m", "x../m/", "autogen./m/"]),
            _ => self.put(&["m"]),
        }
        if self.dice.roll(2) == 0 {
            self.gap();
            self.put(&["WHERE "]);
            match self.dice.roll(3) {
                0 => {
                    self.put_one(&["s=~", "s =~ ", "s!~", "s !~"]);
                    self.regex();
                }
                1 => {
                    self.put_one(&["s=", "s = ", "s!="]);
                    self.quoted("'", "'");
                }
                _ => {
                    self.value();
                    self.put_one(&["<", ">", "=", ">=", "<>"]);
                    self.value();
                }
            }
        }
        if self.dice.roll(6) == 0 {
            self.put(&[" GROUP BY "]);
            self.regex();
        }
    }

    fn statement(&mut self) {
        match self.dice.roll(14) {
            0 => self.put_one(&[
                "SHOW DATABASES",
                "SHOW MEASUREMENTS",
                "show stats",
                "SHOW USERS",
            ]),
            1 => {
                self.put_one(&[
                    "SHOW TAG VALUES WITH KEY =~",
                    "SHOW SERIES FROM",
                    "SHOW TAG KEYS FROM ",
                ]);
                self.regex();
            }
            2 => {
                self.put_one(&["EXPLAIN ", "EXPLAIN ANALYZE "]);
                self.select(0);
            }
            3 => {
                let bait = self.bait.clone();
                self.put(&[&bait]);
            }
            // Two of these with a statement between them look like one with a regex.
            4..=6 => {
                let dividends = [
                    "v", "\"v\"", "1.", ".5*v", "2", "mean(v)", "(v)", "v::float",
                ];
                self.put(&["SELECT "]);
                self.put_one(&dividends);
                self.put_one(&["/v FROM m", "/2 FROM m", "/v, v FROM m"]);
            }
            _ => self.select(0),
        }
    }

    fn build(mut self) -> String {
        for n in 0..=self.dice.roll(3) {
            if n > 0 {
                self.put_one(&[";", " ; ", "\n;\n", ";;"]);
            }
            if self.dice.roll(4) == 0 {
                self.gap();
            }
            self.statement();
        }
        if self.dice.roll(2) == 0 {
            self.bait("");
        }
        for _ in 0..self.dice.roll(6).saturating_sub(2) {
            let at = self.dice.roll(self.pieces.len());
            let fragment = self.dice.of(&FRAGMENTS).to_owned();
            match self.dice.roll(4) {
                0 => drop(self.pieces.remove(at)),
                1 => self.pieces[at] = fragment,
                _ => self.pieces.insert(at, fragment),
            }
            if self.pieces.is_empty() {
                break;
            }
        }
        self.pieces.concat()
    }
}

fn text(dice: &mut Dice, n: u64) -> String {
    let create = dice.of(&[
        "CREATE DATABASE ",
        "create database ",
        "CREATE/**/DATABASE\n",
    ]);
    Text {
        dice,
        bait: format!("{create}snuck_{n}_"),
        into: format!("SELECT v INTO snuck_{n}_ FROM m"),
        pieces: Vec::new(),
        lists: false,
        is_over: false,
    }
    .build()
}

fn post(client: &mut Client, query: &str, form: &str) -> Answer {
    let head = format!(
        "POST /query?{query} HTTP/1.1\r\nHost: r\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        form.len()
    );
    client.send(&[head.as_bytes(), form.as_bytes()].concat());
    client.answer().expect("influxd lives")
}

/// All databases and measurements whose name says that a text made them.
fn snuck(server: &Influxd) -> Vec<u64> {
    let mut found = Vec::new();
    for query in ["SHOW DATABASES", "SHOW MEASUREMENTS ON x"] {
        let body = server.query(query).body;
        let names = body.split("snuck_").skip(1);
        found.extend(names.map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
            rest[..end].parse::<u64>().unwrap()
        }));
    }
    found
}

#[test]
fn what_passes_for_a_read_changes_nothing() {
    let Some(server) = Influxd::start("query") else {
        return;
    };
    crate::client::write(&server.address, "/write?db=x", "m,s=a v=1 1\nm,s=b v=2 2");
    let seed = seed();
    eprintln!("SEED={seed}");
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut client = Client::new(&server.address);
    let mut sent = BTreeMap::new();
    let (mut understood, mut harmless) = (0, 0);
    for n in 0..TEXTS {
        let text = text(&mut dice, n);
        let is_write = does(text.as_bytes()) == Does::Writes;
        // Of those that write, some: they tell whether the bait is any good.
        if is_write && dice.roll(3) > 0 {
            continue;
        }
        let mut form = "q=".to_owned().into_bytes();
        encode(&text, &mut form);
        let answer = post(&mut client, "db=x", std::str::from_utf8(&form).unwrap());
        if answer.status == 200 {
            understood += 1;
            harmless += u64::from(!is_write);
        }
        sent.insert(n, (text, is_write));
    }
    let mut caught = 0;
    for n in snuck(&server) {
        let (text, is_write) = &sent[&n];
        assert!(is_write, "SEED={seed}: it passed for a read: {text:?}");
        caught += 1;
    }
    eprintln!(
        "{} sent, {understood} understood, {harmless} of these passed, {caught} bit",
        sent.len()
    );
    assert!(harmless > 100 && caught > 100, "the generator is any good");
}

#[test]
fn whichever_of_its_texts_a_server_takes_it_was_judged() {
    let Some(server) = Influxd::start("query-form") else {
        return;
    };
    let seed = seed();
    eprintln!("SEED={seed}");
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut client = Client::new(&server.address);
    let mut out = Vec::new();
    let (mut sent, mut passed) = (BTreeMap::new(), 0);
    for n in 0..2000 {
        let mut pairs = || {
            let mut pairs = String::new();
            for _ in 0..dice.roll(4) {
                pairs += dice.of(&["q", "q", "%71", "q+", "x", "Q", "q[]", "+q", "q%00"]);
                pairs += dice.of(&["=", "=", "=", "=", "%3D", ""]);
                pairs += dice.of(&[
                    "SHOW+USERS",
                    "CREATE+DATABASE+snuck_",
                    "",
                    "%20",
                    "%0ASHOW%20USERS",
                ]);
                if pairs.ends_with("snuck_") {
                    pairs += &format!("{n}_");
                }
                pairs += dice.of(&["&", "&", "&", "&", "&", ";", "%26", "&&", "%z&", ""]);
            }
            pairs
        };
        let (query, form) = (pairs(), pairs());
        let body = Body::of(Some(b"application/x-www-form-urlencoded"), form.as_bytes());
        let is_write = query_text(query.as_bytes(), body, &mut out).does() == Does::Writes;
        passed += u64::from(!is_write);
        post(&mut client, &query, &form);
        sent.insert(n, (query, form, is_write));
    }
    let found = snuck(&server);
    for n in &found {
        let (query, form, is_write) = &sent[n];
        assert!(
            is_write,
            "SEED={seed}: it passed for a read: {query:?} {form:?}"
        );
    }
    eprintln!("{} sent, {passed} passed, {} bit", sent.len(), found.len());
    assert!(
        passed > 100 && found.len() > 50,
        "the generator is any good"
    );
}

/// A mebibyte of what could make a scanner go back and forth.
#[test]
fn judging_is_linear() {
    // The debug build is not what runs.
    let most = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 50 });
    for part in [
        "/", "'", "\"", "\\", "(", "-", "*", ";", "$", ".", "1", "a", "a ", "/*", "*/", "--\n",
        "--\r", ",/", ",//", ",/a/", ",/\\/", "''", "'\\'", "\"\\", "/**/", "/**/ ", "1.", "1h",
        "=~/", "\u{b5}",
    ] {
        for start in [
            "",
            "SELECT ",
            "SELECT '",
            "SELECT \"",
            "SELECT /",
            "SHOW a ",
            "--",
            "/*",
        ] {
            let text = start.to_owned() + &part.repeat((1 << 20) / part.len());
            let begun = Instant::now();
            does(text.as_bytes());
            let took = begun.elapsed();
            assert!(took < most, "{start}{part}…: {took:?}");
        }
    }
}
