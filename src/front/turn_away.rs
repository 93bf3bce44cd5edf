//! What a connection does for the gate: it says where the client is, and tells who does not pass.

use std::io;
use std::net::IpAddr;

use crate::front::connection::Connection;
use crate::front::gate::Away;
use crate::front::wish::Begun;
use crate::http::response::{Closing, write_error};

impl Connection<'_> {
    /// Where the client is, if it matters; the kernel is asked once.
    pub(super) fn from(&mut self) -> Option<IpAddr> {
        match self.door.gate.asks_where_from() {
            true => *self.peer.get_or_insert_with(|| self.stream.peer()),
            false => None,
        }
    }

    /// Answers somebody who does not pass. What has come of the body is thrown away, so that a whole one
    /// does not end the connection.
    pub(super) async fn turn_away(&mut self, begun: &mut Begun, away: &Away) -> io::Result<bool> {
        let bytes_max = self.shard.world.plan.limits.body_bytes_max;
        if !begun.whole
            && let Ok(progress) = begun.body.feed(&self.inbox, &mut Vec::new(), bytes_max)
        {
            begun.whole = progress.done;
            self.inbox.drain(..progress.taken);
        }
        let opts = Closing {
            keep_alive: begun.opts.keep_alive && begun.whole,
            ..begun.opts
        };
        let mut out = Vec::new();
        write_error(&mut out, away.status, &away.words, &away.headers, opts);
        self.answer(begun, away.status, &out).await
    }
}
