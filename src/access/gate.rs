//! One door as one shard keeps it: who has proven themselves here, and who is about to.
//!
//! Who has is known by a digest of what they brought, keyed with a number drawn at the start: no secret
//! is kept, and nobody can look one up. There is one digest per entry of the list, so that
//! nothing grows. Who has not waits for one thread beside the shard, which verifies one after the other. What is
//! wrong is not remembered: to be asked again costs that thread's time, and the queue has bounds.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use futures_lite::future::poll_fn;
use glommio::sync::Semaphore;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::access::credentials::{Credentials, Refused, Space, brought};
use crate::access::rates::counted;
use crate::access::roll::{Found, Roll, Suspect};
use crate::access::warden::Warden;
use crate::limits::access::{PROOFS_MAX, PROOFS_PER_CLIENT_MAX};
use crate::metrics::ShardMetrics;
use crate::plan::ListenerPlan;

type Fingerprint = [u8; 32];

/// One door of one shard.
pub struct Gate {
    /// What it shares with the same door of the other shards.
    pub warden: Arc<Warden>,
    key: [u8; 32],
    /// By entry, what it brought when it was verified.
    proven: Box<[Cell<Option<Fingerprint>>]>,
    /// Waiting or being verified, in their order.
    proofs: RefCell<Vec<Rc<Proof>>>,
    /// One verification at a time, whatever door of the shard it is for.
    turn: Turn,
    metrics: Arc<ShardMetrics>,
}

/// What the doors of one shard share, so that they verify one after the other: each takes memory, and one
/// of the two threads that stand beside the shard.
#[derive(Clone)]
pub struct Turn(Rc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Self(Rc::new(Semaphore::new(1)))
    }
}

/// Credentials that are being verified.
pub struct Proof {
    fingerprint: Fingerprint,
    client: [u8; 9],
    suspect: Suspect,
    secret: RefCell<Vec<u8>>,
    outcome: Cell<Option<Option<usize>>>,
    waiting: RefCell<Vec<Waker>>,
}

/// What is known of who brings credentials.
pub enum Look {
    /// It is this entry.
    Known(usize),
    /// It will be known when this has come out.
    Unproven(Rc<Proof>),
}

impl Gate {
    /// A door where nobody has proven themselves yet. Once per plan and shard.
    ///
    /// # Errors
    /// The kernel has no random number.
    pub fn new(
        warden: &Arc<Warden>,
        turn: &Turn,
        metrics: &Arc<ShardMetrics>,
    ) -> std::io::Result<Rc<Self>> {
        let mut key = [0; 32];
        if warden.roll.is_some() {
            rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty())?;
        }
        let entries = warden.roll.as_ref().map_or(0, Roll::len);
        Ok(Rc::new(Self {
            warden: Arc::clone(warden),
            key,
            proven: (0..entries).map(|_| Cell::new(None)).collect(),
            proofs: RefCell::default(),
            turn: turn.clone(),
            metrics: Arc::clone(metrics),
        }))
    }

    /// A door of its own, shared with no other shard.
    ///
    /// # Errors
    /// As [`Gate::new`].
    pub fn alone(plan: &ListenerPlan, metrics: &Arc<ShardMetrics>) -> std::io::Result<Rc<Self>> {
        Self::new(&Warden::new(plan), &Turn::default(), metrics)
    }

    /// Whether everybody may do everything, any number of times.
    pub fn is_open(&self) -> bool {
        self.warden.roll.is_none() && !self.warden.rates.is_any()
    }

    /// Whether it matters where a client is.
    pub fn asks_where_from(&self) -> bool {
        self.warden.roll.is_some() || self.warden.rates.has_clients()
    }

    /// Who brings these; `None` where nobody is asked. Once per request; allocates nothing for who has
    /// proven themselves.
    ///
    /// # Errors
    /// Why they are not let in.
    pub fn look(
        self: &Rc<Self>,
        query: &[u8],
        authorization: Option<&[u8]>,
        from: Option<IpAddr>,
    ) -> Result<Option<Look>, Refused> {
        let Some(roll) = &self.warden.roll else {
            return Ok(None);
        };
        let mut space = Space::default();
        let credentials = brought(query, authorization, &mut space)?;
        let suspect = match roll.find(credentials) {
            Found::Known(at) => return Ok(Some(Look::Known(at))),
            Found::Nobody => return Err(Refused::Wrong),
            Found::Suspect(suspect) => suspect,
        };
        let fingerprint = self.fingerprint(credentials);
        let has_proven = |at: usize| {
            let proven = self.proven.get(at).and_then(Cell::get);
            proven.is_some_and(|proven| proven.ct_eq(&fingerprint).into())
        };
        let known = match suspect {
            Suspect::User(at) => at.filter(|&at| has_proven(at)),
            Suspect::Token => roll
                .slow_tokens()
                .iter()
                .copied()
                .find(|&at| has_proven(at)),
        };
        match known {
            Some(at) => Ok(Some(Look::Known(at))),
            None => self
                .prove(suspect, fingerprint, credentials, from)
                .map(|proof| Some(Look::Unproven(proof))),
        }
    }

    fn fingerprint(&self, credentials: Credentials<'_>) -> Fingerprint {
        let mut hash = Sha256::new_with_prefix(self.key);
        match credentials {
            Credentials::User { name, password } => {
                hash.update([1]);
                hash.update(name.len().to_le_bytes());
                hash.update(name);
                hash.update(password);
            }
            Credentials::Token(token) => {
                hash.update([2]);
                hash.update(token);
            }
        }
        hash.finalize().into()
    }

    /// Has them verified; those that are already share the outcome.
    fn prove(
        self: &Rc<Self>,
        suspect: Suspect,
        fingerprint: Fingerprint,
        credentials: Credentials<'_>,
        from: Option<IpAddr>,
    ) -> Result<Rc<Proof>, Refused> {
        let mut proofs = self.proofs.borrow_mut();
        if let Some(same) = proofs.iter().find(|proof| proof.fingerprint == fingerprint) {
            return Ok(Rc::clone(same));
        }
        let client = from.map_or([0; 9], counted);
        let own = proofs.iter().filter(|proof| proof.client == client).count();
        if proofs.len() >= PROOFS_MAX || own >= PROOFS_PER_CLIENT_MAX {
            return Err(Refused::Busy);
        }
        let (Credentials::User {
            password: secret, ..
        }
        | Credentials::Token(secret)) = credentials;
        let proof = Rc::new(Proof {
            fingerprint,
            client,
            suspect,
            secret: RefCell::new(secret.to_vec()),
            outcome: Cell::new(None),
            waiting: RefCell::default(),
        });
        proofs.push(Rc::clone(&proof));
        let is_first = proofs.len() == 1;
        drop(proofs); // a task runs as soon as it is spawned
        if is_first {
            glommio::spawn_local(Rc::clone(self).verify_all()).detach();
        }
        Ok(proof)
    }

    /// Verifies what waits, one after the other, until nothing does.
    async fn verify_all(self: Rc<Self>) {
        loop {
            let Some(proof) = self.proofs.borrow().first().map(Rc::clone) else {
                return;
            };
            let (warden, suspect) = (Arc::clone(&self.warden), proof.suspect);
            let secret = proof.secret.take();
            self.metrics.verifications.add(1);
            let verify = move || {
                let roll = warden.roll.as_ref();
                catch_unwind(AssertUnwindSafe(|| roll?.verify(suspect, &secret))).unwrap_or(None)
            };
            let turn = self.turn.0.acquire_permit(1).await; // it fails only once it is closed, and nobody does
            let outcome = glommio::executor().spawn_blocking(verify).await;
            drop(turn);
            if let Some(proven) = outcome.and_then(|at| self.proven.get(at)) {
                proven.set(Some(proof.fingerprint));
            }
            self.proofs.borrow_mut().remove(0);
            proof.outcome.set(Some(outcome));
            proof.waiting.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Proof {
    /// The entry whose credentials they are.
    ///
    /// # Errors
    /// They are nobody's.
    pub async fn outcome(&self) -> Result<usize, Refused> {
        let outcome = poll_fn(|cx| match self.outcome.get() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                self.waiting.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        });
        outcome.await.ok_or(Refused::Wrong)
    }
}
