//! The revocation feed: a long poll without end (`docs/contracts.md` §3).

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{Request, StatusCode};
use tokio::task::spawn_local;

use super::Fallen;
use super::answer::{Page, Revocation, Revoked};
use super::worker::{Worker, collect, push_encoded};
use crate::events::{Event, Kind, Outcome};
use crate::upstream::UpstreamBody;

const MAX_PAGE_BYTES: usize = 8 << 20;
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(2);
/// A server that answers without news and without waiting is not asked more often than this.
const PACE: Duration = Duration::from_millis(100);

/// How long one poll waits: so short that a silent feed is noticed in time, and that one lost answer does not make it stale.
pub(super) fn wait_seconds(stale_seconds: u64) -> u64 {
    (stale_seconds / 3).clamp(1, 20)
}

/// Follows the feed, and starts anew should that panic.
pub(super) async fn keep_following(worker: Rc<Worker>) {
    loop {
        if spawn_local(follow(worker.clone())).await.is_err_and(|error| error.is_panic()) {
            worker.memory.metrics.panics.inc();
        }
        worker.forget_everything();
        tokio::time::sleep(LAST_BACKOFF).await;
    }
}

/// Where the feed stands.
#[derive(Default)]
struct Position {
    epoch: String,
    sequence: u64,
}

async fn follow(worker: Rc<Worker>) {
    let stale = worker.memory.stale_millis;
    let mut position = Position::default();
    let mut backoff = FIRST_BACKOFF;
    let mut reported = false;
    loop {
        let started = Instant::now();
        // The first poll does not wait: until it is answered nothing remembered may be used.
        let wait = if position.epoch.is_empty() { 0 } else { wait_seconds(stale / 1000) };
        match poll(&worker, &position, wait).await {
            Some(page) => {
                let news = page.reset || !page.revocations.is_empty();
                apply(&worker, &mut position, page);
                // Only now: what it tells is in force.
                worker.memory.feed_answered();
                if std::mem::take(&mut reported) {
                    report(&worker, Outcome::Allow, "the revocation feed answers again");
                }
                backoff = FIRST_BACKOFF;
                if !news && wait > 0 && started.elapsed() < PACE {
                    tokio::time::sleep(PACE).await;
                }
            }
            None => {
                worker.memory.metrics.revocation_feed_errors.inc();
                if !reported && !worker.memory.is_fresh(Instant::now()) {
                    reported = true;
                    report(&worker, Outcome::Error, "the revocation feed is silent: no remembered credential is used");
                }
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(LAST_BACKOFF);
            }
        }
    }
}

/// One poll; `None`: no usable answer.
async fn poll(worker: &Worker, position: &Position, wait: u64) -> Option<Page> {
    let mut target = format!("/internal/revocations?after={}&epoch=", position.sequence);
    push_encoded(&mut target, &position.epoch);
    target.push_str(&format!("&wait={wait}"));
    let mut request = Request::new(UpstreamBody::Empty);
    *request.uri_mut() = target.parse().ok()?;
    let limit = Duration::from_secs(wait) + worker.timeout;
    let page = tokio::time::timeout(limit, async {
        let (head, body) = worker.upstream.send(request, true).await.ok()?.into_parts();
        if head.status != StatusCode::OK {
            return None;
        }
        let page: Page = serde_json::from_slice(&collect(body, MAX_PAGE_BYTES).await.ok()?).ok()?;
        (!page.epoch.is_empty()).then_some(page)
    });
    page.await.ok().flatten()
}

fn apply(worker: &Worker, position: &mut Position, page: Page) {
    let first = position.epoch.is_empty();
    // Another epoch, or a number that goes back: whatever was missed, it is forgotten with everything else.
    let broken = !first && (page.epoch != position.epoch || page.sequence < position.sequence);
    let mut fallen = Fallen::default();
    let understood = page.revocations.iter().all(|revocation| add(worker, &mut fallen, &revocation.what));
    worker.forget(fallen);
    if !first && !page.reset {
        measure(worker, &page.revocations);
    }
    if page.reset || broken || !understood {
        worker.forget_everything();
        if !first {
            worker.memory.metrics.revocation_resets.inc();
        }
    }
    *position = Position { epoch: page.epoch, sequence: page.sequence };
}

/// Adds one revocation to those of its page. False: it says something that is not understood.
fn add(worker: &Worker, fallen: &mut Fallen, what: &Revoked) -> bool {
    let metrics = &worker.memory.metrics;
    let counter = match what {
        Revoked::Token { digest } => {
            let Some(key) = Revoked::parse_digest(digest) else { return false };
            fallen.tokens.insert(key);
            &metrics.revocations_token
        }
        Revoked::Client { client_id } => {
            fallen.clients.insert(client_id.clone());
            &metrics.revocations_client
        }
        Revoked::User { sub } => {
            fallen.users.insert(sub.clone());
            &metrics.revocations_user
        }
        Revoked::Session { sid } => {
            fallen.sessions.insert(sid.clone());
            &metrics.revocations_session
        }
        Revoked::Grant { grant_id } => {
            fallen.grants.insert(grant_id.clone());
            &metrics.revocations_grant
        }
        Revoked::Unknown => return false,
    };
    counter.inc();
    true
}

/// How long ago what is now in force was revoked. Clocks of two machines may differ: a lag below nothing is none.
fn measure(worker: &Worker, revocations: &[Revocation]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    for revocation in revocations {
        let lag = Duration::try_from_secs_f64(now - revocation.revoked_at).unwrap_or_default();
        worker.memory.metrics.revocation_lag_seconds.observe(lag);
    }
}

pub(super) fn report(worker: &Worker, outcome: Outcome, what: &'static str) {
    if let Some(events) = worker.events.as_ref().and_then(std::sync::Weak::upgrade) {
        let mut event = Event::new(Kind::AuthorizationServer, outcome);
        event.detail = Some(what.into());
        events.emit(event);
    }
}
