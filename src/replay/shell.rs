//! What replay stands on in a running relay: the shard's clock and sockets, and threads for files.

use std::cell::RefCell;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::answer::Reply;
use crate::backend::errand::Errand;
use crate::backend::outcome::{Failure, Outcome};
use crate::backend::outgoing;
use crate::backend::partial::{self, Rest};
use crate::backend::pool::Backend;
use crate::clock::Moment;
use crate::engine::timer;
use crate::events::Event;
use crate::fanout::share;
use crate::limits;
use crate::plan::{BackendId, WhenFull};
use crate::replay::catch_up::{self, Rules};
use crate::replay::ground::{Corpse, Ground, News, Request};
use crate::replay::judge::{Sent, retry_after};
use crate::shard::Shard;
use crate::spool::dead_letter::{self, DeadLetter, without_credentials, without_passwords};
use crate::spool::disk::{DiskFile, PlaceFile};
use crate::spool::source::Want;
use crate::spool::track::Track;

/// Brings one backend level whenever it is owed anything. One task per backend, for ever.
pub async fn run(shard: Rc<Shard>, id: BackendId) {
    let world = Arc::clone(&shard.world);
    let Some(spool) = &world.spool else { return };
    let backend = Rc::clone(&shard.backends[id.0]);
    let (plan, whole) = (&backend.plan, &spool.plan);
    let rules = Rules {
        label: plan.label.clone(),
        index: id.0,
        batch_bytes_max: plan.replay_batch_bytes_max,
        wait_max: plan.replay_wait_max,
        owed_bytes_max: (whole.when_full == WhenFull::DropOldest).then_some(plan.owed_bytes_max),
        age_max: whole.age_max,
        bytes_per_second: whole.replay_bytes_per_second,
        poison_attempts: whole.poison_attempts,
        poison_after: whole.poison_after,
    };
    let ground = Shell {
        errand: RefCell::new(Errand::new(&backend)),
        reply: RefCell::default(),
        request: RefCell::default(),
        shard: &shard,
        backend,
    };
    catch_up::run(&ground, &spool.board, &rules).await;
}

struct Shell<'a> {
    shard: &'a Rc<Shard>,
    backend: Rc<Backend>,
    errand: RefCell<Errand>,
    reply: RefCell<Reply>,
    request: RefCell<outgoing::Request>,
}

/// Runs what waits for a disk on a thread of its own. A panic there would hang whoever waits.
async fn off_the_shard<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let caught = move || std::panic::catch_unwind(AssertUnwindSafe(work));
    match glommio::executor().spawn_blocking(caught).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::other("a bug ended the work on this file")),
    }
}

impl Ground for Shell<'_> {
    type File = PlaceFile;

    fn now(&self) -> Moment {
        self.shard.driver.clock().read();
        self.shard.driver.now()
    }

    fn wall_ms(&self) -> u64 {
        u64::try_from(self.shard.driver.clock().wall_ns() / 1_000_000).unwrap_or(0)
    }

    async fn while_live(&self) {
        if let Some(keeper) = &self.shard.keeper {
            keeper.while_live(self.backend.id).await;
        }
    }

    async fn rest(&self, span: Duration) {
        timer::sleep(span).await;
    }

    async fn read(&self, want: &Want<PlaceFile>) -> io::Result<Vec<u8>> {
        let (segment, at, bytes) = (Arc::clone(&want.segment), want.at, want.bytes);
        off_the_shard(move || {
            // A damaged length may say anything; the file does not.
            let left = segment.file.bytes()?.saturating_sub(at);
            let bytes = bytes.min(usize::try_from(left).unwrap_or(usize::MAX));
            let mut buffer = vec![0; bytes];
            let mut filled = 0;
            while filled < bytes {
                match DiskFile::read_at(&*segment.file, &mut buffer[filled..], at + filled as u64)?
                {
                    0 => break,
                    count => filled += count,
                }
            }
            buffer.truncate(filled);
            Ok(buffer)
        })
        .await
    }

    #[allow(clippy::await_holding_refcell_ref)] // one task per backend: nobody else borrows them
    async fn send(&self, request: Request<'_>) -> Sent {
        let parts = &mut *self.request.borrow_mut();
        parts.kind = request.kind;
        for (own, piece) in [
            (&mut parts.query, request.query),
            (&mut parts.headers, request.headers),
            (&mut parts.authorization, request.authorization),
        ] {
            own.clear();
            own.extend_from_slice(piece);
        }
        let mut body = request.body;
        if self.backend.filter.is_some() {
            parts.body.clear();
            parts.body.extend_from_slice(body);
            match share::leave_of(self.shard, self.backend.id, parts) {
                Ok(true) => {}
                Ok(false) => return said(204, String::new()),
                Err(refusal) => return said(refusal.status, refusal.reason.to_owned()),
            }
        }
        let part = parts.for_filter(self.backend.filter);
        if self.backend.filter.is_some() {
            body = &part.body;
        }
        let reply = &mut *self.reply.borrow_mut();
        let answered = self.errand.borrow_mut().send(part, body, reply).await;
        if answered.is_ok() && Outcome::of_reply(part.kind, reply).is_taken() {
            self.backend.shared.voice.accepted();
        }
        match answered {
            Ok(()) if let Some(rest) = partial::rest(part.kind, reply) => match rest {
                Rest::Dropped(_) => Sent::Partly {
                    reply: reply.clone(),
                },
                // The points that it never will want are counted, and that is all.
                Rest::Expired(points) => {
                    let most = partial::points_max(body, !part.has_plain_lines());
                    self.backend.count_expired(points.min(most));
                    said(204, String::new())
                }
            },
            Ok(()) => Sent::Answered {
                status: reply.status,
                reason: reason(&reply.body),
                retry_after: retry_after(&reply.headers),
            },
            Err(Failure::TimedOut) => Sent::Away { timed_out: true },
            Err(Failure::Closed | Failure::Nonsense) => Sent::Died,
            Err(_) => Sent::Away { timed_out: false },
        }
    }

    fn is_up(&self) -> bool {
        self.backend.is_up()
    }

    fn is_up_everywhere(&self) -> bool {
        let rows = self.shard.world.metrics.iter();
        rows.map(|shard| &shard.backends[self.backend.id.0])
            .all(|row| row.up.get() == 1)
    }

    async fn bury(&self, corpses: Vec<Corpse>) -> io::Result<()> {
        let Some(dir) = self.dir() else {
            return Err(io::Error::other("the spool is in memory only"));
        };
        let time = i64::try_from(self.wall_ms()).unwrap_or(0);
        let time = jiff::Timestamp::from_millisecond(time).unwrap_or_default();
        let letters: Vec<DeadLetter> = corpses
            .into_iter()
            .map(|corpse| self.letter(&corpse, time.to_string()))
            .collect();
        let label = self.backend.plan.label.clone();
        off_the_shard(move || dead_letter::bury(&dir, &label, &letters)).await
    }

    fn inflate(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let bytes_max = self.shard.world.plan.limits.body_bytes_max;
        let mut inflater = self.shard.inflater.borrow_mut();
        inflater.inflate(body, &mut out, bytes_max).ok()?;
        Some(out)
    }

    fn old_logs(&self) -> Vec<Arc<Track<PlaceFile>>> {
        let spool = self.shard.world.spool.as_ref();
        spool.map_or_else(Vec::new, |spool| spool.old.clone())
    }

    fn logs(&self) -> &[Arc<Track<PlaceFile>>] {
        let spool = self.shard.world.spool.as_ref();
        spool.map_or(&[], |spool| &spool.tracks)
    }

    fn dice(&self) -> u64 {
        self.shard.driver.now().0 ^ ((self.backend.id.0 as u64) << 40)
    }

    fn say(&self, news: News) {
        let backend = self.backend.id;
        let what = match news {
            News::Owing => Event::Owing { backend },
            News::Level => {
                self.backend.shared.is_well();
                Event::Level { backend }
            }
            News::Buried {
                pieces,
                status,
                reason,
            } => Event::Buried {
                backend,
                pieces,
                status,
                reason,
            },
            News::Unburied(why) => Event::Unburied { backend, why },
            News::Damaged(records) => Event::Damaged { backend, records },
            News::Dropped(row, records) => Event::Dropped {
                backend,
                row,
                records,
            },
            News::Stuck(why) => {
                self.backend.shared.complain(&why, self.wall_ms());
                Event::Stuck { backend, why }
            }
        };
        self.shard.events.tell(what);
    }
}

impl Shell<'_> {
    fn dir(&self) -> Option<PathBuf> {
        self.shard.world.spool.as_ref()?.plan.dir.clone()
    }

    fn letter(&self, corpse: &Corpse, time: String) -> DeadLetter {
        let query = String::from_utf8_lossy(&corpse.query);
        let mut letter = DeadLetter {
            time,
            backend: self.backend.plan.label.clone(),
            status: corpse.status,
            reason: corpse.reason.clone(),
            path: corpse.kind.path(&self.backend.plan.endpoints).to_owned(),
            query: without_credentials(&query),
            body: None,
            base64: None,
        };
        letter.set_body(match corpse.kind {
            outgoing::Kind::Statement => without_passwords(&corpse.body),
            _ => &corpse.body,
        });
        letter
    }
}

/// What would be said of a body that was not sent.
fn said(status: u16, reason: String) -> Sent {
    Sent::Answered {
        status,
        reason,
        retry_after: None,
    }
}

/// What a backend said, cut to a bound, for people.
fn reason(body: &[u8]) -> String {
    let end = body.len().min(limits::REASON_BYTES_MAX);
    String::from_utf8_lossy(&body[..end]).trim().to_owned()
}
