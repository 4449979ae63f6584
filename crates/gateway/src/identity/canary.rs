//! The canary: a token that is revoked on purpose, to measure how soon this gateway lets go of it (`docs/contracts.md` §3).

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::Deserialize;
use stockade_engine::CredentialKind;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use zeroize::Zeroizing;

use super::feed::report;
use super::worker::{Worker, push_encoded};
use super::{Place, Question};
use crate::events::Outcome;

/// What a revocation may take.
const PROMISE: Duration = Duration::from_secs(1);
/// After this a canary counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The first one waits for the feed to have answered.
const FIRST_AFTER: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Canary {
    token: String,
    #[serde(rename = "expires_in")]
    _expires_in: u64,
}

/// Sends one canary after another, for as long as the thread lives.
pub(super) async fn keep_probing(worker: Rc<Worker>) {
    tokio::time::sleep(FIRST_AFTER.min(worker.canary_every)).await;
    loop {
        let own = worker.clone();
        let outcome = spawn_local(async move { probe(&own).await }).await;
        match outcome {
            Ok(Ok(lag)) => {
                worker.memory.metrics.revocation_canary_seconds.observe(lag);
                if lag > PROMISE {
                    report(&worker, Outcome::Error, "a canary's revocation took more than a second to arrive");
                }
            }
            Ok(Err(what)) => {
                worker.memory.metrics.revocation_canary_failures.inc();
                report(&worker, Outcome::Error, what);
            }
            Err(_) => {
                worker.memory.metrics.panics.inc();
                worker.memory.metrics.revocation_canary_failures.inc();
            }
        }
        tokio::time::sleep(worker.canary_every).await;
    }
}

/// Takes a canary, has it verified into the cache, has it revoked; how long the cache still held it. The time counts from before
/// the revocation was asked for, so it never flatters.
async fn probe(worker: &Rc<Worker>) -> Result<Duration, &'static str> {
    let body = post(worker, "/internal/canary", "").await.ok_or("no canary could be had")?;
    let canary: Canary = serde_json::from_slice(&body).map_err(|_| "no canary could be had")?;
    let token = Zeroizing::new(canary.token);
    let place = Place::of(&token, None);
    verify(worker, place, &token).await?;
    let mut form = Zeroizing::new("token=".to_owned());
    push_encoded(&mut form, &token);
    let started = Instant::now();
    post(worker, "/internal/canary/revoke", &form).await.ok_or("a canary could not be revoked")?;
    while worker.memory.active.get(&place.key).is_some() {
        if started.elapsed() > PATIENCE {
            return Err("a canary's revocation did not arrive");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(started.elapsed())
}

async fn verify(worker: &Rc<Worker>, place: Place, token: &str) -> Result<(), &'static str> {
    let resource = worker.canary_resource.borrow().clone().unwrap_or_default();
    let (answer, answered) = oneshot::channel();
    let secret = Zeroizing::new(token.to_owned());
    worker.take(Question { kind: CredentialKind::AccessToken, place, secret, resource, operation: None, answer });
    match tokio::time::timeout(worker.timeout * 2, answered).await {
        Ok(Ok(Ok(Some(_)))) => {}
        _ => return Err("a canary could not be verified"),
    }
    match worker.memory.active.get(&place.key) {
        Some(_) => Ok(()),
        None => Err("a canary was not remembered"),
    }
}

async fn post(worker: &Worker, path: &'static str, form: &str) -> Option<bytes::Bytes> {
    let answered = tokio::time::timeout(worker.timeout, worker.post(path, form)).await;
    match answered {
        Ok(Ok((StatusCode::OK, body))) => Some(body),
        _ => None,
    }
}
