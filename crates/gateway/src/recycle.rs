//! Memory of exchanges, used again: a request's future is large and short-lived, which is what allocators like least.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use crate::body::OutBody;
use crate::connection::Peer;
use crate::deadlines::Pace;
use crate::service;
use crate::worker::Worker;

/// Futures that a thread keeps for later; more are freed.
const MAX_KEPT: usize = 128;

/// What an exchange begins with.
pub struct Call {
    pub worker: Rc<Worker>,
    pub peer: Rc<Peer>,
    pub pace: Arc<Pace>,
    pub request: Request<Incoming>,
}

/// The place of one exchange.
pub trait Place {
    fn start(self: Pin<&mut Self>, call: Call);
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response<OutBody>>;
    fn clear(self: Pin<&mut Self>);
}

pin_project! {
    struct Typed<M, F> {
        make: M,
        #[pin]
        future: Option<F>,
    }
}

impl<M: Fn(Call) -> F, F: Future<Output = Response<OutBody>>> Place for Typed<M, F> {
    fn start(self: Pin<&mut Self>, call: Call) {
        let mut this = self.project();
        let future = (this.make)(call);
        this.future.set(Some(future));
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response<OutBody>> {
        match self.project().future.as_pin_mut() {
            Some(future) => future.poll(context),
            None => Poll::Pending,
        }
    }

    fn clear(self: Pin<&mut Self>) {
        self.project().future.set(None);
    }
}

/// The places that a thread keeps.
pub type Places = std::cell::RefCell<Vec<Pin<Box<dyn Place>>>>;

/// An exchange under way; its place goes back to the thread when it ends or is given up.
pub struct Serving {
    worker: Rc<Worker>,
    place: Option<Pin<Box<dyn Place>>>,
}

impl Serving {
    pub fn start(call: Call) -> Serving {
        let worker = call.worker.clone();
        let kept = worker.places.borrow_mut().pop();
        let mut place = kept.unwrap_or_else(|| Box::pin(Typed { make: service::serve, future: None }));
        place.as_mut().start(call);
        Serving { worker, place: Some(place) }
    }

    fn end(&mut self) {
        let Some(mut place) = self.place.take() else { return };
        place.as_mut().clear();
        let mut kept = self.worker.places.borrow_mut();
        if kept.len() < MAX_KEPT {
            kept.push(place);
        }
    }
}

impl Future for Serving {
    type Output = Result<Response<OutBody>, std::convert::Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(place) = &mut self.place else { return Poll::Pending };
        let polled = place.as_mut().poll(context);
        if polled.is_ready() {
            self.end();
        }
        polled.map(Ok)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.end();
    }
}
