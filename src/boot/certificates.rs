//! The certificates of all doors and backends: read at the start, and again when their files change.
//!
//! One thread looks at the files once a second: their time, length and place on the disk. A file that changed
//! is read at once, and new connections meet the new certificate; old ones go on as they are. What is wrong
//! with a new file is said once, when it stays so for a look (a key may come a moment after its certificate),
//! and the old certificate stays.

use std::fs::metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, Sender, bounded};
use rustls::ClientConfig;

use crate::boot::tls;
use crate::boot::unfit::Unfit;
use crate::boot::{StartError, helper};
use crate::engine::tls::{ClientTls, ServerTls};
use crate::limits;
use crate::plan::{BackendTlsPlan, Plan};
use crate::shard::World;

/// What all of a plan's TLS is spoken with.
#[derive(Default)]
pub(super) struct Opened {
    /// Per listener.
    pub(super) doors: Vec<Option<ServerTls>>,
    /// Per backend.
    pub(super) backends: Vec<Option<ClientTls>>,
    /// For peers, where one of them is `https://`.
    pub(super) peers: Option<Arc<ClientConfig>>,
}

/// Everything that is wrong with the files that a plan names. Reads them. Per start, and per `check`.
pub fn check(plan: &Plan) -> Vec<Unfit> {
    open(plan).err().unwrap_or_default()
}

/// Reads all files of a plan. Once per start.
///
/// # Errors
/// Everything that is wrong with them.
pub(super) fn open(plan: &Plan) -> Result<Opened, Vec<Unfit>> {
    let (mut opened, mut unfit) = (Opened::default(), Vec::new());
    for listener in &plan.listeners {
        let config = listener
            .tls
            .as_ref()
            .map(|files| tls::of_door(&listener.name, files));
        opened.doors.push(match config {
            Some(Err(why)) => {
                unfit.push(why);
                None
            }
            Some(Ok(config)) => Some(ArcSwap::new(config)),
            None => None,
        });
    }
    for backend in &plan.backends {
        let config = backend.tls.as_ref().map(|files| {
            let config = ArcSwap::new(tls::of_backend(&backend.name, files)?);
            let name = tls::name_of(&backend.name, &backend.host)?;
            let ca_file = files.ca_file.as_ref().filter(|_| !files.skip_verification);
            let ca_file = ca_file.map(|path| path.display().to_string().into());
            Ok(ClientTls {
                config,
                name,
                ca_file,
            })
        });
        opened.backends.push(match config {
            Some(Err(why)) => {
                unfit.push(why);
                None
            }
            Some(Ok(tls)) => Some(tls),
            None => None,
        });
    }
    if plan.peers.iter().any(|peer| peer.tls) {
        match tls::of_backend("peers", &BackendTlsPlan::default()) {
            Ok(config) => opened.peers = Some(config),
            Err(why) => unfit.push(why),
        }
    }
    match unfit.is_empty() {
        true => Ok(opened),
        false => Err(unfit),
    }
}

/// The way to the thread that looks at the files.
#[derive(Debug, Clone)]
pub(super) struct Watch(Option<Sender<()>>);

/// Has all files looked at now, changed or not. Per SIGHUP; does not wait.
pub(super) fn look_again(watch: &Watch) {
    if let Some(watch) = &watch.0 {
        let _is_asked_already = watch.try_send(());
    }
}

/// Starts the thread, if any file is used. It ends when another plan is in force.
pub(super) fn start(world: &Arc<World>) -> Result<Watch, StartError> {
    let mut watched = watched(&world.plan);
    if watched.is_empty() {
        return Ok(Watch(None));
    }
    let (watch, asked) = bounded(1);
    let world = Arc::clone(world);
    helper("certificates", move || look(&world, &mut watched, &asked))?;
    Ok(Watch(Some(watch)))
}

fn look(world: &World, watched: &mut [Watched], asked: &Receiver<()>) {
    while !world.is_over.load(Ordering::Relaxed) {
        let is_asked = asked.recv_timeout(limits::tls::LOOK_INTERVAL).is_ok();
        for one in &mut *watched {
            one.look(world, is_asked);
        }
    }
}

/// Whose files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Door(usize),
    Backend(usize),
}

/// When a file was written or its mode was changed, how long it is, and where it lies; `None` where it cannot be looked at.
type Stamp = Option<(i64, i64, u64, u64)>;

/// The files of one door or backend.
#[derive(Debug)]
struct Watched {
    whose: Whose,
    files: Vec<PathBuf>,
    /// As they were when they were last read.
    seen: Vec<Stamp>,
    /// What was wrong with them then, as long as nobody has heard of it.
    untold: Option<Unfit>,
}

fn watched(plan: &Plan) -> Vec<Watched> {
    let doors = plan.listeners.iter().enumerate();
    let doors = doors.filter_map(|(n, listener)| {
        let tls = listener.tls.as_ref()?;
        let files = [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()];
        Some((Whose::Door(n), files))
    });
    let backends = plan.backends.iter().enumerate();
    let backends = backends.filter_map(|(n, backend)| {
        let tls = backend.tls.as_ref()?;
        let files = [&tls.ca_file, &tls.client_cert, &tls.client_key];
        Some((Whose::Backend(n), files.map(Option::as_ref)))
    });
    let all = doors.chain(backends).map(|(whose, files)| {
        let files: Vec<PathBuf> = files.into_iter().flatten().cloned().collect();
        Watched {
            whose,
            seen: stamps(&files),
            files,
            untold: None,
        }
    });
    all.filter(|watched| !watched.files.is_empty()).collect()
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Stamp {
    let found = metadata(file).ok()?;
    Some((found.ctime(), found.ctime_nsec(), found.len(), found.ino()))
}

impl Watched {
    fn look(&mut self, world: &World, is_asked: bool) {
        let now = stamps(&self.files);
        if now == self.seen && !is_asked {
            if let Some(why) = self.untold.take() {
                tracing::error!(%why, "a new certificate cannot be used: the old one stays");
            }
            return;
        }
        self.seen = now;
        self.untold = self.renew(world).err();
        if self.untold.is_none() {
            let files = self.files.iter().map(|file| file.display().to_string());
            let files = files.collect::<Vec<_>>().join(", ");
            tracing::info!(of = self.name(world), files, "certificates were read again");
        } else if is_asked {
            self.look(world, false); // whoever asked hears at once
        }
    }

    fn name<'w>(&self, world: &'w World) -> &'w str {
        match self.whose {
            Whose::Door(n) => &world.plan.listeners[n].name,
            Whose::Backend(n) => &world.plan.backends[n].label,
        }
    }

    /// Reads the files; new connections meet what is in them.
    fn renew(&self, world: &World) -> Result<(), Unfit> {
        let name = self.name(world);
        match self.whose {
            Whose::Door(n) => {
                if let (Some(files), Some(live)) = (&world.plan.listeners[n].tls, &world.tls[n]) {
                    live.store(tls::of_door(name, files)?);
                }
            }
            Whose::Backend(n) => {
                if let (Some(files), Some(live)) =
                    (&world.plan.backends[n].tls, &world.backends[n].tls)
                {
                    live.config.store(tls::of_backend(name, files)?);
                }
            }
        }
        Ok(())
    }
}
