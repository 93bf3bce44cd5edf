//! What a connection does for the gate: it tells who does not pass.

use std::io;

use crate::front::connection::Connection;
use crate::front::gate::Away;
use crate::front::wish::Begun;
use crate::http::response::{Closing, write_error};

impl Connection<'_> {
    /// Answers somebody who does not pass. What has come of the body is thrown away, so that a whole one
    /// does not end the connection.
    pub(super) async fn turn_away(&mut self, begun: &mut Begun, away: &Away) -> io::Result<bool> {
        let bytes_max = self.intake.current.shard.world.plan.limits.body_bytes_max;
        if !begun.whole
            && let Ok(progress) = begun
                .body
                .feed(&self.intake.inbox, &mut Vec::new(), bytes_max)
        {
            begun.whole = progress.done;
            self.intake.inbox.drain(..progress.taken);
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
