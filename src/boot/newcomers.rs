//! Which backends are new beside known ones, when a plan comes into force, and when they no longer are.
//!
//! At a start the spool's list says whom it knows; at a reload also the plan before. Where neither says anything
//! all are taken as they are, and so are those of a listener that has no known one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::plan::{BackendId, BackendPlan};
use crate::shard::World;
use crate::spool::archive::Archive;
use crate::spool::known;

/// The names that the spool knows.
pub(super) struct Known {
    dir: Option<PathBuf>,
    /// `None` where nothing is said of anybody.
    names: Option<BTreeSet<String>>,
    /// The file does not say what is known now.
    is_unwritten: bool,
}

impl Known {
    /// No spool in a folder.
    pub(super) fn nothing() -> Self {
        Self {
            dir: None,
            names: None,
            is_unwritten: false,
        }
    }

    /// Those on file; without a file, those of whom logs of earlier starts speak.
    pub(super) fn read(dir: &Path, archive: &Archive) -> Self {
        let mut is_unwritten = true;
        let names = match known::read(dir) {
            Ok(Some(names)) => {
                is_unwritten = false;
                Some(names)
            }
            Ok(None) => {
                let mut names = BTreeSet::new();
                let of_logs = archive.logs.iter().flat_map(|log| &log.track.names);
                known::add(&mut names, of_logs.map(String::as_str));
                (!names.is_empty()).then_some(names)
            }
            Err(why) => {
                let file = known::FILE;
                tracing::warn!(file, %why, "the list of known backends is damaged: all are taken for known");
                None
            }
        };
        Self {
            dir: Some(dir.to_owned()),
            names,
            is_unwritten,
        }
    }

    /// Says of each backend of the plan whether it is new, and writes down whom the spool knows now.
    pub(super) fn mark(&mut self, world: &World, before: Option<&World>) {
        for (backend, shared) in world.plan.backends.iter().zip(&world.backends) {
            shared.voice.set_new(self.is_new(backend, before));
            if let Some((before, place)) =
                before.and_then(|before| Some((before, same(backend, before)?)))
            {
                shared.voice.go_on(&before.backends[place].voice);
            }
        }
        for (outputs, _) in world.plan.doors() {
            let writers = || outputs.iter().filter(|id| world.plan.backends[id.0].writes);
            let is_known = |id: &&BackendId| world.backends[id.0].voice.is_known();
            let takes_known = writers().any(|id| is_known(&id));
            if !takes_known {
                writers().for_each(|id| world.backends[id.0].voice.set_new(false));
            }
            for id in outputs
                .iter()
                .filter(|id| !world.plan.backends[id.0].writes)
            {
                world.backends[id.0].voice.set_new(false); // it will never accept anything
            }
        }
        self.write(world);
    }

    fn is_new(&self, backend: &BackendPlan, before: Option<&World>) -> bool {
        let has_name = |names: &BTreeSet<String>| {
            names.contains(&backend.label) || names.contains(&backend.name)
        };
        match (&self.names, before) {
            (Some(names), _) => !has_name(names),
            (None, Some(_)) => true,
            (None, None) => false,
        }
    }

    /// Takes those for known that have accepted something and owe nothing, and writes it down. Waits for the disk.
    pub(super) fn tick(&mut self, world: &World) {
        for b in 0..world.backends.len() {
            let _may_have_become_so = world.is_known(BackendId(b));
        }
        self.write(world);
    }

    fn write(&mut self, world: &World) {
        let Some(dir) = &self.dir else { return };
        let names = self.names.get_or_insert_default();
        let backends = world.plan.backends.iter().zip(&world.backends);
        let level = backends.filter(|(_, shared)| shared.voice.is_known());
        let labels = level.map(|(plan, _)| plan.label.as_str());
        let was_unwritten = self.is_unwritten;
        self.is_unwritten |= known::add(names, labels);
        if !self.is_unwritten {
            return;
        }
        match known::write(dir, names) {
            Ok(()) => self.is_unwritten = false,
            Err(why) if !was_unwritten => {
                tracing::warn!(%why, "the list of known backends cannot be written");
            }
            Err(_) => {} // said before; tried again with the next tick
        }
    }
}

/// The place that a backend had in the plan before: by its label, or by its name and address.
fn same(backend: &BackendPlan, before: &World) -> Option<usize> {
    let is_same = |old: &BackendPlan| {
        (&old.name, &old.host, old.port) == (&backend.name, &backend.host, backend.port)
    };
    let by_label = before.place_of(&backend.label);
    by_label.or_else(|| before.plan.backends.iter().position(is_same))
}
