//! One window to the backend: request by request, poison taken out on the way.

use std::time::Duration;

use crate::backend::letters;
use crate::backend::partial::dropped_lines;
use crate::limits;
use crate::metrics::code_row;
use crate::replay::ground::{Corpse, Ground, News, Request};
use crate::replay::judge::{Judgement, Sent, judge};
use crate::replay::poison::Halving;
use crate::replay::window::{Group, Window};
use crate::spool::board::{self, Desk};

/// The way to the backend.
pub struct Delivery<'a, G: Ground> {
    /// What it stands on.
    pub ground: &'a G,
    /// Where it keeps count.
    pub desk: &'a Desk,
}

/// Why a window was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// A record that always ends so may be what is wrong.
    pub counts: bool,
    /// The backend may still be at work on what it was sent.
    pub timed_out: bool,
    /// What it answered; 0 for nothing.
    pub status: u16,
    /// What it said, or did, in words.
    pub words: String,
    /// How long it asks to be left alone.
    pub wait: Option<Duration>,
}

impl<G: Ground> Delivery<'_, G> {
    /// Sends a window. What the backend will never take is set aside on the way.
    ///
    /// # Errors
    /// What stands in the way; some of the window may have been taken.
    pub async fn deliver(&self, window: &Window) -> Result<(), Obstacle> {
        for group in &window.groups {
            match self.send(group, &group.headers, &group.body).await {
                (Judgement::Delivered, _) => {}
                (Judgement::Partly, sent) => self.name_dropped(group, sent).await?,
                (Judgement::Poison, sent) => self.set_aside(group, sent).await?,
                (Judgement::Later { counts }, sent) => return Err(Obstacle::of(counts, sent)),
            }
        }
        Ok(())
    }

    /// Sends one request; what its answer means.
    pub async fn send(&self, group: &Group, headers: &[u8], body: &[u8]) -> (Judgement, Sent) {
        let request = Request {
            kind: group.kind,
            query: &group.query,
            headers,
            authorization: &group.authorization,
            body,
        };
        let sent = self.ground.send(request).await;
        (judge(group.kind, &sent), sent)
    }

    /// Halves what was refused until what is wrong stands alone; that is buried, the rest delivered.
    async fn set_aside(&self, group: &Group, refused: Sent) -> Result<(), Obstacle> {
        let inflated = group.is_gzip().then(|| self.ground.inflate(&group.body));
        let body = match &inflated {
            None => &group.body,
            Some(Some(body)) => body,
            Some(None) => {
                self.bury(vec![group.corpse(&group.body, &refused)]).await;
                return Ok(());
            }
        };
        if !group.has_lines() {
            self.bury(vec![group.corpse(body, &refused)]).await;
            return Ok(());
        }
        let headers = group.headers_of_lines();
        let mut halving = Halving::new(body);
        let mut dead = Vec::new();
        while let Some(part) = halving.next() {
            let piece = &body[part.start..part.end];
            match self.send(group, &headers, piece).await {
                (Judgement::Delivered, _) => halving.taken(),
                (Judgement::Partly, sent) => {
                    dead.extend(group.dropped(piece, &sent));
                    halving.taken();
                }
                (Judgement::Later { counts }, sent) => return Err(Obstacle::of(counts, sent)),
                (Judgement::Poison, sent) => {
                    dead.extend(halving.refused().map(|_| group.corpse(piece, &sent)));
                }
            }
        }
        self.bury(dead).await;
        Ok(())
    }

    /// The backend has written a part of a body, for good: the lines that it dropped are set aside. Where its words
    /// do not name them, halves of the body are sent again, a bounded number of times; each half names more, and
    /// what is left then is set aside as it is.
    async fn name_dropped(&self, group: &Group, sent: Sent) -> Result<(), Obstacle> {
        let inflated = group.is_gzip().then(|| self.ground.inflate(&group.body));
        let body = match &inflated {
            None => &group.body,
            Some(Some(body)) => body,
            Some(None) => &group.body,
        };
        let is_readable = group.has_lines() && !matches!(inflated, Some(None));
        if let Some(named) = is_readable.then(|| group.named(body, &sent)).flatten() {
            self.bury(vec![named]).await;
            return Ok(());
        }
        if !is_readable {
            self.bury(vec![group.corpse(&group.body, &sent)]).await;
            return Ok(());
        }
        let headers = group.headers_of_lines();
        let mut halving = Halving::new(body);
        let (mut dead, mut sends) = (Vec::new(), 0);
        while let Some(part) = halving.next() {
            let piece = &body[part.start..part.end];
            if sends == limits::PARTIAL_SENDS_MAX {
                dead.push(group.corpse(&body[part.start..], &sent));
                break;
            }
            sends += 1;
            match self.send(group, &headers, piece).await {
                (Judgement::Delivered, _) => halving.taken(),
                (Judgement::Later { counts }, sent) => return Err(Obstacle::of(counts, sent)),
                (Judgement::Partly, sent) if let Some(named) = group.named(piece, &sent) => {
                    dead.push(named);
                    halving.taken();
                }
                (Judgement::Partly | Judgement::Poison, sent) => {
                    dead.extend(halving.refused().map(|_| group.corpse(piece, &sent)));
                }
            }
        }
        self.bury(dead).await;
        Ok(())
    }

    /// Writes dead letters; if that fails, they are counted as lost.
    pub async fn bury(&self, dead: Vec<Corpse>) {
        let Some(first) = dead.first() else {
            return;
        };
        let (pieces, status, reason) = (dead.len(), first.status, first.reason.clone());
        for corpse in &dead {
            self.desk.dead[code_row(corpse.status)].add(1);
        }
        match self.ground.bury(dead).await {
            Ok(()) => self.ground.say(News::Buried {
                pieces,
                status,
                reason,
            }),
            Err(why) => {
                self.desk.dropped[board::DROPPED_UNLETTERED].add(pieces as u64);
                self.ground.say(News::Unburied(why.to_string()));
            }
        }
    }
}

impl Obstacle {
    fn of(counts: bool, sent: Sent) -> Self {
        match sent {
            Sent::Partly { reply } => Self {
                counts,
                timed_out: false,
                status: reply.status,
                words: format!("it takes a part: {}", letters::reason(&reply)),
                wait: None,
            },
            Sent::Answered {
                status,
                reason,
                retry_after,
            } => Self {
                counts,
                timed_out: false,
                status,
                words: format!("it answers {status}: {reason}"),
                wait: retry_after,
            },
            Sent::Died => Self {
                counts,
                timed_out: false,
                status: 0,
                words: "it closes the connection without an answer".to_owned(),
                wait: None,
            },
            Sent::Away { timed_out } => Self {
                counts,
                timed_out,
                status: 0,
                words: "it cannot be reached, or does not answer in time".to_owned(),
                wait: None,
            },
        }
    }
}

impl Group {
    /// The lines that were dropped, if the answer tells which.
    fn named(&self, body: &[u8], sent: &Sent) -> Option<Corpse> {
        let Sent::Partly { reply } = sent else {
            return None;
        };
        dropped_lines(body, reply)?;
        Some(self.corpse(&letters::dropped(body, reply), sent))
    }

    /// The lines that were dropped, or all of the body.
    fn dropped(&self, body: &[u8], sent: &Sent) -> Option<Corpse> {
        let named = self.named(body, sent);
        named.or_else(|| Some(self.corpse(body, sent)))
    }

    fn corpse(&self, body: &[u8], sent: &Sent) -> Corpse {
        let (status, reason) = match sent {
            Sent::Answered { status, reason, .. } => (*status, reason.clone()),
            Sent::Partly { reply } => (reply.status, letters::reason(reply)),
            Sent::Died | Sent::Away { .. } => (0, String::new()),
        };
        Corpse {
            status,
            reason,
            kind: self.kind,
            query: self.query.clone(),
            body: body.to_vec(),
        }
    }
}
