//! An upgraded connection: bytes both ways, until one side ends or both are silent.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

use crate::body::InFlight;
use crate::deadlines::Pace;
use crate::state::Drain;
use crate::worker::Worker;

const BUFFER_BYTES: usize = 8 * 1024;

/// Splices the two sides once both have switched. The request stays in flight until the tunnel ends.
pub fn start(worker: &Rc<Worker>, pace: &Arc<Pace>, client: OnUpgrade, upstream: OnUpgrade) {
    let in_flight = InFlight::begin(worker, pace);
    let mut drain = worker.shared.drain.subscribe();
    let idle = Duration::from_millis(worker.shared.config.connections.idle_timeout_ms);
    tokio::task::spawn_local(async move {
        let _in_flight = in_flight;
        let (Ok(client), Ok(upstream)) = (client.await, upstream.await) else { return };
        tokio::select! {
            _ = splice(client, upstream, idle) => {}
            _ = drain.wait_for(|stage| *stage == Drain::Now) => {}
        }
    });
}

async fn splice(client: Upgraded, upstream: Upgraded, idle: Duration) -> std::io::Result<()> {
    let (mut client_read, mut client_write) = split(TokioIo::new(client));
    let (mut upstream_read, mut upstream_write) = split(TokioIo::new(upstream));
    let moved = tokio::sync::Notify::new();
    let up = copy(&mut client_read, &mut upstream_write, &moved);
    let down = copy(&mut upstream_read, &mut client_write, &moved);
    let both = async { tokio::try_join!(up, down).map(|_| ()) };
    let silence = async { while tokio::time::timeout(idle, moved.notified()).await.is_ok() {} };
    tokio::select! {
        result = both => result,
        () = silence => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &tokio::sync::Notify,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..n).unwrap_or_default()).await?;
        to.flush().await?;
        moved.notify_one();
    }
}
