//! The one I/O wrapper between the socket (or TLS) and hyper: guard, frame counter, deadlines.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use stockade_engine::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::accept::Slot;
use crate::deadlines::{Pace, Upgrade, now_ms};
use crate::frames::FrameCounter;
use crate::guard::{Guard, REFUSED_HEAD, Refusal, Verdict};

/// What a client may still send, unread, after the last answer, so that a reset does not destroy the answer.
pub const MAX_LINGER_BYTES: usize = 8 << 20;
const SCRATCH_BYTES: usize = 4_096;

/// A client's connection as hyper sees it.
pub struct Wire<S> {
    inner: S,
    pace: Arc<Pace>,
    protocol: Protocol,
    lingered: usize,
    shut: bool,
    /// Gives the place of this address back when the connection ends.
    _slot: Slot,
}

enum Protocol {
    Http1(Box<Http1>),
    Http2(Box<FrameCounter>),
    /// After a 101, nothing is looked at any more.
    Tunnel,
}

struct Http1 {
    guard: Guard,
    /// Bytes that hyper has not got yet.
    held: Vec<u8>,
    /// How many of them passed the guard.
    passed: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The rest of `held` waits for the answer to an upgrade.
    Upgrade,
    /// The stand-in for the refused head is due.
    Refused,
    /// The stand-in was delivered: nothing more comes.
    Silent,
    /// A body cannot be read on.
    Broken,
    End,
}

impl<S> Wire<S> {
    pub fn http1(inner: S, pace: Arc<Pace>, guard: Guard, slot: Slot) -> Wire<S> {
        let http1 = Http1 { guard, held: Vec::new(), passed: 0, stage: Stage::Open };
        Wire::new(inner, pace, Protocol::Http1(Box::new(http1)), slot)
    }

    pub fn http2(inner: S, pace: Arc<Pace>, counter: FrameCounter, slot: Slot) -> Wire<S> {
        Wire::new(inner, pace, Protocol::Http2(Box::new(counter)), slot)
    }

    fn new(inner: S, pace: Arc<Pace>, protocol: Protocol, slot: Slot) -> Wire<S> {
        Wire { inner, pace, protocol, lingered: 0, shut: false, _slot: slot }
    }
}

impl Http1 {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        inner: &mut S,
        pace: &Pace,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.passed > 0 {
                self.deliver(out);
                return Poll::Ready(Ok(()));
            }
            match self.stage {
                Stage::Open if pace.head_expired() => self.expire(pace),
                Stage::Open if self.held.is_empty() => {
                    if ready!(self.read_through(inner, pace, context, out))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Stage::Open => ready!(self.read_more(inner, pace, context))?,
                Stage::Upgrade => match pace.take_upgrade() {
                    // Once granted, the wire is a tunnel, and this is not reached.
                    Upgrade::Unknown | Upgrade::Granted => return Poll::Pending,
                    Upgrade::Refused => {
                        self.guard.resume();
                        self.stage = Stage::Open;
                        self.judge_held(pace);
                    }
                },
                Stage::Refused => {
                    out.put_slice(REFUSED_HEAD.get(..out.remaining()).unwrap_or(REFUSED_HEAD));
                    self.stage = Stage::Silent;
                    return Poll::Ready(Ok(()));
                }
                Stage::Silent => return Poll::Pending,
                Stage::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Stage::End => return Poll::Ready(Ok(())),
            }
        }
    }

    fn deliver(&mut self, out: &mut ReadBuf<'_>) {
        let n = self.passed.min(out.remaining());
        out.put_slice(self.held.get(..n).unwrap_or_default());
        self.held.drain(..n);
        self.passed -= n;
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    /// The usual way: whole messages are read into hyper's buffer and judged in place. Returns whether there is something.
    fn read_through<S: AsyncRead + Unpin>(
        &mut self,
        inner: &mut S,
        pace: &Pace,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = out.filled().len();
        ready!(Pin::new(inner).poll_read(context, out))?;
        let new = out.filled().get(before..).unwrap_or_default();
        if new.is_empty() {
            self.stage = Stage::End;
            return Poll::Ready(Ok(true));
        }
        let verdict = self.guard.scan(new);
        if verdict == Verdict::Pass {
            pace.head_ends();
            return Poll::Ready(Ok(true));
        }
        let pass = self.apply(verdict, pace);
        self.held.extend_from_slice(new.get(pass..).unwrap_or_default());
        out.set_filled(before + pass);
        Poll::Ready(Ok(pass > 0))
    }

    fn read_more<S: AsyncRead + Unpin>(
        &mut self,
        inner: &mut S,
        pace: &Pace,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut scratch = [0; SCRATCH_BYTES];
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(inner).poll_read(context, &mut buffer))?;
        if buffer.filled().is_empty() {
            self.stage = Stage::End;
            return Poll::Ready(Ok(()));
        }
        self.held.extend_from_slice(buffer.filled());
        self.judge_held(pace);
        Poll::Ready(Ok(()))
    }

    fn judge_held(&mut self, pace: &Pace) {
        let verdict = self.guard.scan(&self.held);
        self.passed = if verdict == Verdict::Pass {
            pace.head_ends();
            self.held.len()
        } else {
            self.apply(verdict, pace)
        };
    }

    /// Takes note of anything but [`Verdict::Pass`]; returns how many of the bytes shown may pass.
    fn apply(&mut self, verdict: Verdict, pace: &Pace) -> usize {
        match verdict {
            Verdict::Pass => 0,
            Verdict::Keep(pass) => {
                pace.head_begins();
                pass
            }
            Verdict::Await(pass) => {
                pace.head_ends();
                self.stage = Stage::Upgrade;
                pass
            }
            Verdict::Refuse { pass, in_body, refusal } => {
                pace.head_ends();
                pace.set_fault(refusal);
                self.stage = if in_body { Stage::Broken } else { Stage::Refused };
                pass
            }
        }
    }

    /// The head did not come in time. Who sent nothing of it gets no answer.
    fn expire(&mut self, pace: &Pace) {
        pace.head_ends();
        self.stage = if self.held.is_empty() { Stage::End } else { Stage::Refused };
        pace.set_fault(Refusal { reason: Reason::Timeout, evidence: "the head did not come in time" });
        self.held = Vec::new();
    }

    /// Whether the client may be sending what nobody will read.
    fn unread(&self) -> bool {
        matches!(self.stage, Stage::Refused | Stage::Silent | Stage::Broken) || !self.guard.between_messages()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Protocol::Http1(http1) = &mut this.protocol
            && http1.passed == 0
            && this.pace.upgraded()
        {
            // What came before the answer to the upgrade belongs to the tunnel.
            http1.passed = http1.held.len();
            if http1.passed == 0 {
                this.protocol = Protocol::Tunnel;
            }
        }
        match &mut this.protocol {
            Protocol::Http1(http1) => http1.poll_read(&mut this.inner, &this.pace, context, out),
            Protocol::Http2(counter) => {
                let before = out.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(context, out))?;
                let blocks = counter.blocks();
                let new = out.filled().get(before..).unwrap_or_default();
                if let Err(evidence) = counter.scan(new, now_ms()) {
                    this.pace.set_fault(Refusal { reason: Reason::BadRequest, evidence });
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                if counter.block_open() {
                    this.pace.head_begins();
                } else if counter.blocks() > blocks {
                    this.pace.head_ends();
                }
                Poll::Ready(Ok(()))
            }
            Protocol::Tunnel => Pin::new(&mut this.inner).poll_read(context, out),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.pace.write_blocked(result.is_pending());
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.pace.write_blocked(result.is_pending());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_flush(context);
        this.pace.write_blocked(result.is_pending());
        result
    }

    /// Sends the end, then reads on for a bounded while: an answer followed by a reset may never be seen (RFC 9112 §9.6).
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.shut {
            ready!(Pin::new(&mut this.inner).poll_shutdown(context))?;
            this.shut = true;
        }
        let Protocol::Http1(http1) = &this.protocol else { return Poll::Ready(Ok(())) };
        if !http1.unread() {
            return Poll::Ready(Ok(()));
        }
        this.pace.lingering();
        let mut scratch = [0; SCRATCH_BYTES];
        while this.lingered < MAX_LINGER_BYTES {
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                break;
            }
            this.lingered += buffer.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}
