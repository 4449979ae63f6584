//! Stockade's data plane: sockets, TLS, HTTP/1 and HTTP/2, pools and deadlines around [`stockade_engine`].
//!
//! ```text
//! listen ─▶ accept ─▶ tls ─▶ wire (guard, frame counter, deadlines) ─▶ hyper ─▶ service ─▶ engine
//!                                                                            ╰─▶ identity, upstream, events, metrics
//! ```
//!
//! One [`tokio::runtime::LocalRuntime`] a thread: nothing on the request path crosses threads, so per-thread parts may be
//! `Rc` and tasks are started with [`tokio::task::spawn_local`].

pub mod admin;
pub mod config;
pub mod events;
pub mod identity;
pub mod metrics;
pub mod state;
pub mod upstream;

use std::path::Path;

/// Serves until it is told to stop. The result is the process's exit status (`docs/contracts.md` §4).
pub fn run(config_path: &Path) -> i32 {
    match config::Config::load(config_path) {
        Ok(_) => 1,
        Err(error) => {
            eprintln!("stockade-gateway: error: {error}");
            2
        }
    }
}
