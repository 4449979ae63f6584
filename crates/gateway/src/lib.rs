//! Stockade's data plane: sockets, TLS, HTTP/1 and HTTP/2, pools and deadlines around [`stockade_engine`].
//!
//! ```text
//! listen ─▶ accept ─▶ tls ─▶ wire (guard, frame counter, deadlines) ─▶ hyper ─▶ service ─▶ engine
//!                                                                            ╰─▶ identity, upstream, events, metrics
//! ```
//!
//! One [`tokio::runtime::LocalRuntime`] a thread: nothing on the request path crosses threads, so per-thread parts may be
//! `Rc` and tasks are started with [`tokio::task::spawn_local`]. A connection may be handed to another thread before its first byte.

mod accept;
pub mod admin;
mod body;
pub mod config;
mod connection;
mod deadlines;
pub mod events;
mod force;
mod frames;
#[doc(hidden)]
pub mod fuzzing;
pub mod guard;
mod head;
pub mod identity;
mod judge_request;
mod judge_response;
mod listen;
pub mod metrics;
mod problem;
mod proxy;
mod ratelimit;
mod recorder;
mod recycle;
mod refused;
mod server;
mod service;
pub mod state;
mod tls;
mod trace;
mod tunnel;
pub mod upstream;
mod wire;
mod worker;

use std::io::Write;
use std::path::Path;

/// Serves until it is told to stop. The result is the process's exit status (`docs/contracts.md` §4).
pub fn run(config_path: &Path) -> i32 {
    match server::run(config_path) {
        Ok(()) => 0,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "stockade-gateway: error: {}", failure.message);
            failure.status
        }
    }
}
