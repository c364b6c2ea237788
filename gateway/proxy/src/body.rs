//! The bodies on both legs: what is sent to the client and what is sent to the upstream.
//!
//! Does not know what the bytes mean. Worst case: a client that uploads one byte per idle
//! deadline holds its connection and the upstream's.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use crate::relay::Relay;
use crate::tracker::{InFlight, UnderWay};

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    /// No bytes.
    Empty,
    /// All of it at once.
    Full(Bytes),
    /// The upstream's, piece by piece.
    Relay(Box<Relay>),
}

/// An answer was cut: the client sees a broken connection or stream, never a short answer that
/// looks whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerCut {
    /// The tap ended it.
    #[error("the answer was cut by the gateway")]
    Cut,
    /// The upstream broke it off.
    #[error("the upstream broke off its answer")]
    UpstreamFailed,
    /// The upstream sent nothing for too long.
    #[error("the upstream stopped sending")]
    Idle,
}

impl AnswerBody {
    /// `bytes`, or no body if there are none.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerCut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerCut>>> {
        let me = self.get_mut();
        match me {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *me = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Relay(relay) => relay
                .poll_piece(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Relay(relay) => relay.has_ended(),
        }
    }

    /// Exact only for what is held here: a tap may shorten what it passes on.
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Relay(_) => SizeHint::default(),
        }
    }
}

/// What a stream's task has last done, for the deadline of stalled HTTP/2 readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing that concerns the client.
    None,
    /// It has something for the client.
    Gave,
    /// It waits for the upstream.
    Waited,
}

thread_local! {
    static PROGRESS: Cell<Progress> = const { Cell::new(Progress::None) };
}

/// Notes progress made in the poll under way.
pub(crate) fn note(progress: Progress) {
    PROGRESS.set(progress);
}

/// The progress noted since the last call.
pub(crate) fn take_progress() -> Progress {
    PROGRESS.replace(Progress::None)
}

/// An answer body as the codec sees it: counted while it lives, its progress noted.
#[derive(Debug)]
pub(crate) struct Outgoing {
    body: AnswerBody,
    _counted: (InFlight, UnderWay),
}

impl Outgoing {
    pub(crate) const fn new(body: AnswerBody, in_flight: InFlight, under_way: UnderWay) -> Self {
        Self {
            body,
            _counted: (in_flight, under_way),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = AnswerCut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerCut>>> {
        let frame = Pin::new(&mut self.get_mut().body).poll_frame(cx);
        note(if frame.is_pending() {
            Progress::Waited
        } else {
            Progress::Gave
        });
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request to an upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// No bytes.
    Empty,
    /// All of it, so that it can be sent again.
    Buffered(Bytes),
    /// The client's, as it comes.
    Streamed(Box<Upload>),
}

/// A client's body on its way to an upstream.
#[derive(Debug)]
pub struct Upload {
    incoming: Incoming,
    left_bytes: u64,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    state: Arc<UploadState>,
}

/// Why an upload ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UploadFault {
    /// The client hung up, or broke its framing.
    #[error("the client broke off its request")]
    ClientGone,
    /// The client sent nothing for too long.
    #[error("the client stopped sending its request")]
    Stalled,
    /// The body is over the limit.
    #[error("the request body is over the limit")]
    TooLarge,
}

/// How far an upload has come, for the side that waits for the answer.
#[derive(Debug, Default)]
pub(crate) struct UploadState(AtomicU8);

impl UploadState {
    const FINISHED: u8 = 1;

    /// Whether all of the body has been handed to the codec.
    pub(crate) fn finished(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::FINISHED
    }

    /// Why it ended early, if it did.
    pub(crate) fn fault(&self) -> Option<UploadFault> {
        match self.0.load(Ordering::Acquire) {
            2 => Some(UploadFault::ClientGone),
            3 => Some(UploadFault::Stalled),
            4 => Some(UploadFault::TooLarge),
            _ => None,
        }
    }

    fn fail(&self, fault: UploadFault) -> UploadFault {
        let code = match fault {
            UploadFault::ClientGone => 2,
            UploadFault::Stalled => 3,
            UploadFault::TooLarge => 4,
        };
        self.0.store(code, Ordering::Release);
        fault
    }
}

impl RequestBody {
    /// `bytes`, or no body if there are none.
    #[must_use]
    pub fn buffered(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Buffered(bytes)
        }
    }

    /// The client's body, at most `limit_bytes` of it, with at most `idle` between two pieces.
    ///
    /// A client that hangs up mid-upload aborts the upstream's request with it.
    #[must_use]
    pub fn streamed(incoming: Incoming, limit_bytes: u64, idle: Duration) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        Self::Streamed(Box::new(Upload {
            incoming,
            left_bytes: limit_bytes,
            idle,
            timer: None,
            state: Arc::default(),
        }))
    }

    /// The same body once more, unless it is a stream.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Buffered(bytes) => Some(Self::Buffered(bytes.clone())),
            Self::Streamed(_) => None,
        }
    }

    /// How far the upload has come, if it is one.
    pub(crate) fn upload_state(&self) -> Option<Arc<UploadState>> {
        match self {
            Self::Empty | Self::Buffered(_) => None,
            Self::Streamed(upload) => Some(Arc::clone(&upload.state)),
        }
    }
}

impl Upload {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UploadFault>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
                let idle = self.idle;
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(idle)));
                ready!(timer.as_mut().poll(cx));
                return Poll::Ready(Some(Err(self.state.fail(UploadFault::Stalled))));
            };
            self.timer = None;
            let Some(frame) = frame else {
                self.state.0.store(UploadState::FINISHED, Ordering::Release);
                return Poll::Ready(None);
            };
            let Ok(frame) = frame else {
                return Poll::Ready(Some(Err(self.state.fail(UploadFault::ClientGone))));
            };
            // Trailers are dropped: nothing has judged them.
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            let Some(left_bytes) = self.left_bytes.checked_sub(bytes.len() as u64) else {
                return Poll::Ready(Some(Err(self.state.fail(UploadFault::TooLarge))));
            };
            self.left_bytes = left_bytes;
            if self.incoming.is_end_stream() {
                self.state.0.store(UploadState::FINISHED, Ordering::Release);
            }
            return Poll::Ready(Some(Ok(bytes)));
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        let me = self.get_mut();
        match me {
            Self::Empty => Poll::Ready(None),
            Self::Buffered(bytes) => {
                let bytes = std::mem::take(bytes);
                *me = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Streamed(upload) => upload
                .poll_piece(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Buffered(_) => false,
            Self::Streamed(upload) => upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Buffered(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(upload) => upload.incoming.size_hint(),
        }
    }
}
