//! The byte streams under both HTTP codecs.
//!
//! Downstream: reads pass the guard, a write that makes no progress ends the connection, and the
//! close lingers while the client is still sending. Upstream: bytes are counted, and a failed
//! write is left to the read side, which may hold an answer that explains it. Knows nothing of
//! HTTP beyond the guard's verdict. Worst case: a client that reads one segment per write
//! deadline keeps its connection.

mod guarded;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::client::TlsStream;

use crate::engine::EngineConfig;
use guarded::Guarded;
pub(crate) use guarded::Verdict;

/// What a client that knows that we speak HTTP/2 sends first (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The client's side of a connection.
#[derive(Debug)]
pub(crate) struct Downstream<S> {
    stream: S,
    /// Read, but not released yet.
    inbox: BytesMut,
    guarded: Option<Guarded>,
    write_deadline: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    linger: Duration,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> Downstream<S> {
    /// A stream of HTTP/1 requests behind a guard; `inbox` has already been read from it.
    pub(crate) fn guarded(
        stream: S,
        inbox: BytesMut,
        verdict: Arc<Verdict>,
        config: &EngineConfig,
    ) -> Self {
        Self {
            guarded: Some(Guarded::new(verdict, config)),
            ..Self::open(stream, inbox, config)
        }
    }

    /// A stream whose framing is not HTTP/1's.
    pub(crate) fn open(stream: S, inbox: BytesMut, config: &EngineConfig) -> Self {
        Self {
            stream,
            inbox,
            guarded: None,
            write_deadline: config.write_deadline,
            stalled: None,
            linger: config.linger,
            lingering: None,
        }
    }

    /// Nothing was written: fails once that has lasted for the write deadline.
    fn stalled<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let deadline = self.write_deadline;
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(deadline)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn after_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_pending() {
            return self.stalled(cx);
        }
        self.stalled = None;
        written
    }

    /// Whether the client may still be sending what nobody will read.
    fn unread(&self) -> bool {
        !self.inbox.is_empty()
            || self
                .guarded
                .as_ref()
                .is_some_and(|guarded| guarded.is_unread())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Downstream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let Some(guarded) = &mut me.guarded else {
            if me.inbox.is_empty() {
                return Pin::new(&mut me.stream).poll_read(cx, buf);
            }
            let length = me.inbox.len().min(buf.remaining());
            buf.put_slice(&me.inbox[..length]);
            me.inbox.advance(length);
            if me.inbox.is_empty() {
                me.inbox = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        };
        loop {
            if let Some(stopped) = guarded.stopped {
                return guarded.after_stop(stopped, buf);
            }
            if !me.inbox.is_empty() {
                let released = guarded.release(&me.inbox, buf.remaining());
                buf.put_slice(&me.inbox[..released]);
                me.inbox.advance(released);
                if me.inbox.is_empty() {
                    // An idle connection holds no memory here.
                    me.inbox = BytesMut::new();
                }
                if released > 0 {
                    return Poll::Ready(Ok(()));
                }
                if guarded.stopped.is_some() {
                    continue;
                }
                match poll_more(&mut me.stream, &mut me.inbox, cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => ready!(guarded.await_head(cx)),
                }
                continue;
            }
            // The common case: a whole request is read into the codec's own buffer and judged
            // there, without a copy.
            let start = buf.filled().len();
            let Poll::Ready(result) = Pin::new(&mut me.stream).poll_read(cx, buf) else {
                // A client that idles too long is read as one that has left.
                return guarded.await_request(cx).map(Ok);
            };
            result?;
            guarded.hears();
            let read = buf.filled().len() - start;
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            let released = guarded.release(&buf.filled()[start..], read);
            me.inbox
                .extend_from_slice(&buf.filled()[start + released..]);
            buf.set_filled(start + released);
            if released > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Reads behind what `inbox` holds.
fn poll_more<S: AsyncRead + Unpin>(
    stream: &mut S,
    inbox: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut chunk = [0_u8; 4096];
    let mut buf = ReadBuf::new(&mut chunk);
    ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
    inbox.extend_from_slice(buf.filled());
    Poll::Ready(Ok(buf.filled().len()))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Downstream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let written = Pin::new(&mut me.stream).poll_write(cx, data);
        me.after_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let written = Pin::new(&mut me.stream).poll_write_vectored(cx, data);
        me.after_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let flushed = Pin::new(&mut me.stream).poll_flush(cx);
        me.after_write(cx, flushed)
    }

    /// Closes the write side; then, if the client may still be sending, reads on for a while.
    ///
    /// Closing a socket that holds unread bytes makes the kernel send a reset, which can destroy
    /// the answer before the client has read it.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.lingering.is_none() {
            let closed = Pin::new(&mut me.stream).poll_shutdown(cx);
            ready!(me.after_write(cx, closed))?;
            if !me.unread() {
                return Poll::Ready(Ok(()));
            }
            me.inbox.clear();
        }
        let linger = me.linger;
        let timer = me.lingering.get_or_insert_with(|| Box::pin(sleep(linger)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            match ready!(poll_more(&mut me.stream, &mut me.inbox, cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Ok(())),
                Ok(_) => me.inbox.clear(),
            }
        }
    }
}

/// Whether a new clear-text connection starts with the HTTP/2 preface; also what was read.
///
/// Stops at the first byte that differs.
///
/// # Errors
/// The stream's own, `UnexpectedEof` where it ends, and `TimedOut` if no byte comes for
/// `idle` or the preface takes longer than `deadline`.
pub(crate) async fn starts_http2<S: AsyncRead + Unpin>(
    stream: &mut S,
    idle: Duration,
    deadline: Duration,
) -> io::Result<(bool, BytesMut)> {
    let mut inbox = BytesMut::with_capacity(8 * 1024);
    let mut wait = idle;
    loop {
        let read = tokio::time::timeout(wait, stream.read_buf(&mut inbox)).await??;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        wait = deadline;
        let seen = inbox.len().min(HTTP2_PREFACE.len());
        if inbox[..seen] != HTTP2_PREFACE[..seen] {
            return Ok((false, inbox));
        }
        if seen == HTTP2_PREFACE.len() {
            return Ok((true, inbox));
        }
    }
}

/// A connection to an upstream, encrypted or not.
#[derive(Debug)]
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The upstream's side of an exchange.
#[derive(Debug)]
pub(crate) struct Upstreamed {
    wire: Wire,
    bytes_read: Arc<AtomicU64>,
}

impl Upstreamed {
    /// Counts what is read from `wire` in `bytes_read`.
    pub(crate) const fn new(wire: Wire, bytes_read: Arc<AtomicU64>) -> Self {
        Self { wire, bytes_read }
    }
}

macro_rules! on_wire {
    ($wire:expr, $stream:ident => $call:expr) => {
        match $wire {
            Wire::Plain($stream) => $call,
            Wire::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Upstreamed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let start = buf.filled().len();
        let result = on_wire!(&mut me.wire, stream => Pin::new(stream).poll_read(cx, buf));
        let read = buf.filled().len() - start;
        me.bytes_read.fetch_add(read as u64, Ordering::Release);
        result
    }
}

impl AsyncWrite for Upstreamed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written =
            on_wire!(&mut self.get_mut().wire, stream => Pin::new(stream).poll_write(cx, data));
        hushed(written, data.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = on_wire!(&mut self.get_mut().wire, stream => Pin::new(stream).poll_write_vectored(cx, data));
        hushed(written, data.iter().map(|slice| slice.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        on_wire!(&self.wire, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        hushed(
            on_wire!(&mut self.get_mut().wire, stream => Pin::new(stream).poll_flush(cx)),
            (),
        )
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_wire!(&mut self.get_mut().wire, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// Passes off a write to a closed connection as done: the read side then finds either the answer
/// that the upstream gave before it closed, or the end.
fn hushed<T>(written: Poll<io::Result<T>>, done: T) -> Poll<io::Result<T>> {
    match written {
        Poll::Ready(Err(error))
            if matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ) =>
        {
            Poll::Ready(Ok(done))
        }
        other => other,
    }
}
