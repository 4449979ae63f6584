//! Listening sockets: inherited from the supervisor, or bound here.
//!
//! The supervisor passes each descriptor of `listen.fds` under its own number (inheritable) and sets `LISTEN_FDS` to the
//! highest of them minus 2; `LISTEN_PID` is unset, or the gateway's. That is systemd's protocol, which counts from 3, so
//! `fds: [3, 4]` comes with `LISTEN_FDS=2` and `fds: [7, 9]` with `LISTEN_FDS=7`. Only the listed numbers are taken.

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::Listen;

const BACKLOG: i32 = 4_096;

/// One listening socket a thread, non-blocking.
pub fn open(listen: &Listen, threads: usize) -> std::io::Result<Vec<TcpListener>> {
    let sockets = match listen.address {
        Some(address) => (0..threads).map(|_| bind(address)).collect::<Result<Vec<_>, _>>()?,
        None => inherit(&listen.fds)?,
    };
    (0..threads)
        .zip(sockets.iter().cycle())
        .map(|(_, socket)| {
            let socket = socket.try_clone()?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect()
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn inherit(fds: &[i32]) -> std::io::Result<Vec<TcpListener>> {
    let mut inherited = listenfd::ListenFd::from_env();
    fds.iter()
        .map(|fd| {
            let index = usize::try_from(fd - 3).map_err(std::io::Error::other)?;
            let socket = inherited.take_tcp_listener(index)?;
            let socket = socket.ok_or_else(|| {
                std::io::Error::other(format!("descriptor {fd} was not passed on (is LISTEN_FDS set?)"))
            })?;
            if !SockRef::from(&socket).is_listener()? {
                return Err(std::io::Error::other(format!("descriptor {fd} does not listen")));
            }
            Ok(socket)
        })
        .collect()
}
