//! The UDP addresses: one socket per shard each, and how shards help one another with them. Once per start.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use nix::net::if_::if_nametoindex;
use socket2::Socket;

use crate::boot::succession::{Inheritance, What};
use crate::boot::{StartError, remedy};
use crate::engine::bell::Bell;
use crate::engine::datagram::{Guest, Steering, Wish, claim, drops, join};
use crate::plan::{Plan, UdpPlan, UdpSteering};
use crate::udp::help::Help;

/// One UDP address: a socket per shard.
#[derive(Clone)]
pub(super) struct Claimed {
    bind: SocketAddr,
    wish: Wish,
    sockets: Arc<Vec<Socket>>,
    /// Per socket, what the kernel had dropped when it was last looked at.
    seen: Arc<Vec<AtomicU32>>,
    help: Option<Arc<Help>>,
}

/// One shard's part of it.
pub(super) struct UdpPost {
    pub(super) socket: Socket,
    /// Per socket of the address, what the kernel had dropped when it was last looked at.
    pub(super) seen: Arc<Vec<AtomicU32>>,
    /// How it is helped, and how it helps.
    pub(super) help: Option<Helped>,
}

/// How shards help one another with one address.
pub(super) struct Helped {
    pub(super) help: Arc<Help>,
    /// The others' sockets, with their shards' numbers.
    pub(super) others: Vec<(usize, Guest)>,
}

/// Opens the sockets of all UDP doors, but for those that are open as they should be, or were inherited.
pub(super) fn claim_all(
    plan: &Plan,
    open: &[Claimed],
    inherited: &mut Inheritance,
) -> Result<Vec<Claimed>, StartError> {
    let shards = plan.cpus.len();
    let mut open = open.to_vec();
    let mut claim = |udp: &UdpPlan| {
        let wish = wish(udp)?;
        let place = open
            .iter()
            .position(|own| own.bind == udp.bind && own.wish == wish);
        let (sockets, seen) = match place.map(|place| open.remove(place)) {
            Some(own) => (own.sockets, own.seen),
            None => {
                let given = inherited.sockets(udp.bind, What::Udp);
                let sockets = claim_one(udp, wish, given, shards)?;
                let seen = sockets.iter().map(|socket| AtomicU32::new(drops(socket)));
                let seen = seen.collect();
                (Arc::new(sockets), Arc::new(seen))
            }
        };
        let is_helped = shards > 1 && udp.steering == UdpSteering::Help;
        let help = match is_helped {
            true => {
                let bells: Result<Vec<Bell>, _> = (0..shards).map(|_| Bell::new()).collect();
                Some(Arc::new(Help::new(bells.map_err(no_descriptor)?)))
            }
            false => None,
        };
        Ok(Claimed {
            bind: udp.bind,
            wish,
            sockets,
            seen,
            help,
        })
    };
    plan.udp.iter().map(&mut claim).collect()
}

fn wish(udp: &UdpPlan) -> Result<Wish, StartError> {
    let interface = udp.interface.as_deref().map(interface).transpose();
    Ok(Wish {
        buffer_bytes: udp.read_buffer_bytes,
        steering: match udp.steering {
            UdpSteering::Spread => Steering::Spread,
            UdpSteering::Flow | UdpSteering::Help => Steering::Flow,
        },
        gro: udp.gro,
        interface: interface.map_err(|why| unheard(udp, why))?.unwrap_or(0),
    })
}

/// The number of an interface, by its name or by its number.
fn interface(text: &str) -> io::Result<u32> {
    let by_name = if_nametoindex(text).ok();
    let by_number = || text.parse().ok().filter(|number| *number > 0);
    by_name
        .or_else(by_number)
        .ok_or_else(|| io::Error::other(format!("no interface is called {text}")))
}

fn unheard(udp: &UdpPlan, why: io::Error) -> StartError {
    let is_taken = why.kind() == io::ErrorKind::AddrInUse;
    let is_group = udp.bind.ip().is_multicast();
    let remedy = match &udp.interface {
        None if is_group && !is_taken => {
            "name the interface of the group in bind-addr, as in 239.1.1.1%eth0:8089 or [ff02::1%eth0]:8089".into()
        }
        Some(_) if !is_taken => {
            "set an interface that this machine has: `ip link` shows them".into()
        }
        _ => remedy(&why, udp.bind, "udp"),
    };
    StartError::Listen {
        name: udp.name.clone(),
        address: udp.bind,
        remedy,
        why,
    }
}

fn claim_one(
    udp: &UdpPlan,
    wish: Wish,
    inherited: Vec<Socket>,
    shards: usize,
) -> Result<Vec<Socket>, StartError> {
    let bound = inherited
        .first()
        .and_then(|socket| socket.local_addr().ok()?.as_socket());
    let claimed = match bound {
        Some(address) => join(address, inherited, shards, wish),
        None => claim(udp.bind, shards, wish),
    };
    let (sockets, given) = claimed.map_err(|why| unheard(udp, why))?;
    let bound = sockets
        .first()
        .and_then(|socket| socket.local_addr().ok()?.as_socket());
    let address = bound.unwrap_or(udp.bind);
    tracing::info!(listener = %udp.name, read_buffer = given, %address, "listening for datagrams");
    if udp.read_buffer_is_asked && given < udp.read_buffer_bytes {
        tracing::warn!(
            listener = %udp.name,
            asked = udp.read_buffer_bytes,
            given,
            "the kernel gives a smaller read-buffer: raise net.core.rmem_max, or give the process CAP_NET_ADMIN"
        );
    }
    Ok(sockets)
}

/// What shard number `shard` gets of all UDP doors.
pub(super) fn posts(all: &[Claimed], shard: usize) -> Result<Vec<UdpPost>, StartError> {
    let post = |claimed: &Claimed| {
        let help = match &claimed.help {
            None => None,
            Some(help) => {
                let others = claimed.sockets.iter().enumerate();
                let others = others.filter(|(number, _)| *number != shard);
                let guests: io::Result<Vec<_>> = others
                    .map(|(number, socket)| Ok((number, Guest::at(socket)?)))
                    .collect();
                Some(Helped {
                    help: Arc::clone(help),
                    others: guests?,
                })
            }
        };
        let socket = claimed.sockets[shard].try_clone()?;
        let seen = Arc::clone(&claimed.seen);
        Ok(UdpPost { socket, seen, help })
    };
    let posts: io::Result<Vec<UdpPost>> = all.iter().map(post).collect();
    posts.map_err(no_descriptor)
}

impl Claimed {
    /// What it is for a successor.
    pub(super) fn given(&self) -> (SocketAddr, What, &[Socket]) {
        (self.bind, What::Udp, &self.sockets)
    }
}

fn no_descriptor(why: io::Error) -> StartError {
    StartError::Thread {
        what: "a UDP listener".to_owned(),
        why: why.to_string(),
    }
}
