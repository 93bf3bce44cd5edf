//! What is sent to backends: one request for all, and copies for those that are to get less of it. Pure.

use crate::http::header::line_value;
use crate::limits;
use crate::payload::filter::FilterId;
use crate::plan::{BackendKind, Endpoints};

/// Which endpoint of a backend a write goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Kind {
    /// InfluxDB 1.x line protocol.
    #[default]
    Write,
    /// InfluxDB 2.x line protocol.
    WriteV2,
    /// InfluxDB 3.x line protocol.
    WriteV3,
    /// Prometheus remote-write; the body is opaque.
    RemoteWrite,
    /// An InfluxQL statement that changes something.
    Statement,
}

impl Kind {
    /// As the spool writes it.
    pub fn number(self) -> u8 {
        match self {
            Self::Write => 0,
            Self::WriteV2 => 1,
            Self::WriteV3 => 2,
            Self::RemoteWrite => 3,
            Self::Statement => 4,
        }
    }

    /// As the spool has written it.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    const ALL: [Self; 5] = [
        Self::Write,
        Self::WriteV2,
        Self::WriteV3,
        Self::RemoteWrite,
        Self::Statement,
    ];

    /// Its bit in a mask of kinds.
    pub fn bit(self) -> u8 {
        1 << self.number()
    }

    /// The kinds that such a backend takes.
    pub fn taken_by(backend: BackendKind) -> u8 {
        let taken: &[Self] = match backend {
            BackendKind::InfluxDb | BackendKind::Relay => &Self::ALL,
            BackendKind::Prometheus => &[Self::RemoteWrite],
            BackendKind::VictoriaMetrics => &[Self::Write, Self::WriteV2, Self::RemoteWrite],
            BackendKind::Kapacitor => &[Self::Write],
        };
        taken.iter().fold(0, |mask, kind| mask | kind.bit())
    }

    /// The path of this kind at one backend.
    pub fn path(self, endpoints: &Endpoints) -> &str {
        match self {
            Self::Write => &endpoints.write,
            Self::WriteV2 => &endpoints.write_v2,
            Self::WriteV3 => &endpoints.write_v3,
            Self::RemoteWrite => &endpoints.remote_write,
            Self::Statement => &endpoints.query,
        }
    }
}

/// What is sent to every backend, but for what is a backend's own: path, host, credentials.
#[derive(Debug, Default)]
pub struct Request {
    /// Which endpoint.
    pub kind: Kind,
    /// The query, without `?`.
    pub query: Vec<u8>,
    /// End-to-end header lines of the client but `Authorization`, each with its CRLF.
    pub headers: Vec<u8>,
    /// The client's `Authorization`; empty where it sent none.
    pub authorization: Vec<u8>,
    /// The body as the backends get it.
    pub body: Vec<u8>,
    /// The body before it was inflated or stamped; empty again by the time it is sent.
    pub spare: Vec<u8>,
    /// Whole lines that end in no open quote: may be joined with others by a newline.
    pub joinable: bool,
    /// What backends with a filter get instead of all of it.
    copies: Copies,
    /// The outputs for which filters leave nothing of it, by their bits.
    pub left_out: u64,
}

/// What is left of one write for backends with a filter; the first `used` count, the others are room.
#[derive(Debug, Default)]
struct Copies {
    all: Vec<(Option<FilterId>, Request)>,
    used: usize,
}

impl Request {
    /// Whether the body is line protocol as it is read, and not compressed.
    pub fn has_plain_lines(&self) -> bool {
        let lines = [Kind::Write, Kind::WriteV2, Kind::WriteV3].contains(&self.kind);
        lines && line_value(&self.headers, "content-encoding").is_none()
    }

    /// What backends with this filter get: a copy, if there is one.
    pub fn for_filter(&self, filter: Option<FilterId>) -> &Self {
        let copies = &self.copies.all[..self.copies.used];
        let copy = copies
            .iter()
            .find(|(of, _)| filter.is_some() && *of == filter);
        copy.map_or(self, |(_, copy)| copy)
    }

    /// A copy for backends with this filter, its body yet empty. It has all else, but for a header line that
    /// says how the body is coded.
    pub fn copy_for(&mut self, filter: FilterId) -> &mut Self {
        let copies = &mut self.copies;
        if copies.used == copies.all.len() {
            copies.all.push(Default::default());
        }
        let (of, copy) = &mut copies.all[copies.used];
        copies.used += 1;
        *of = Some(filter);
        copy.kind = self.kind;
        copy.joinable = self.joinable;
        copy.query.extend_from_slice(&self.query);
        copy.authorization.extend_from_slice(&self.authorization);
        push_uncoded(&mut copy.headers, &self.headers, self.kind);
        copy
    }

    /// Takes back all copies.
    pub fn uncopy_all(&mut self) {
        while self.copies.used > 0 {
            self.uncopy();
        }
    }

    /// Takes back the last copy.
    pub fn uncopy(&mut self) {
        self.copies.used -= 1;
        self.copies.all[self.copies.used]
            .1
            .clear(limits::FLIGHT_KEEP_BYTES);
    }

    pub(super) fn clear(&mut self, keep_bytes: usize) {
        self.kind = Kind::default();
        self.joinable = false;
        self.left_out = 0;
        for (_, copy) in &mut self.copies.all[..self.copies.used] {
            copy.clear(keep_bytes);
        }
        self.copies.used = 0;
        for buffer in [
            &mut self.query,
            &mut self.headers,
            &mut self.authorization,
            &mut self.body,
            &mut self.spare,
        ] {
            buffer.clear();
            if buffer.capacity() > keep_bytes {
                *buffer = Vec::new();
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.body.capacity()
            + self.spare.capacity()
            + self.headers.capacity()
            + self.query.capacity()
            + (self.copies.all.iter().map(|(_, copy)| copy.bytes())).sum::<usize>()
    }
}

/// Appends header lines without the one that says how a body of lines was coded.
fn push_uncoded(out: &mut Vec<u8>, headers: &[u8], kind: Kind) {
    for line in headers.split_inclusive(|&byte| byte == b'\n') {
        if kind == Kind::RemoteWrite || line_value(line, "content-encoding").is_none() {
            out.extend_from_slice(line);
        }
    }
}
