//! Messages over the hand-over socket: four bytes of length, then JSON; sockets ride along with one
//! of them.
//!
//! Decides nothing. Worst case: a peer that stops in the middle of a frame, which the deadline of
//! the stream ends where one is set.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message: the rates of a gateway with a hundred thousand buckets in use fit.
const MOST_BYTES: u32 = 64 << 20;

/// The most sockets that can be handed over; Linux takes 253 at once.
pub(super) const MOST_SOCKETS: usize = 64;

/// Sends one message.
pub(super) fn send(stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut stream = stream;
    stream.write_all(&frame(message)?)
}

/// Sends one short message, and sockets with it.
pub(super) fn send_with(
    stream: &UnixStream,
    message: &impl Serialize,
    sockets: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let frame = frame(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("too many sockets to hand over"));
    }
    let flags = SendFlags::NOSIGNAL;
    let sent = sendmsg(stream.as_fd(), &[IoSlice::new(&frame)], &mut control, flags)?;
    // The sockets have gone with the first byte.
    let mut stream = stream;
    stream.write_all(frame.get(sent..).unwrap_or_default())
}

/// The next message.
pub(super) fn receive<M: DeserializeOwned>(stream: &UnixStream) -> io::Result<M> {
    let mut length = [0; 4];
    let mut reading = stream;
    reading.read_exact(&mut length)?;
    body(stream, length)
}

/// The next message, and the sockets that come with it.
pub(super) fn receive_with<M: DeserializeOwned>(
    stream: &UnixStream,
) -> io::Result<(M, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut length)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream.as_fd(), &mut parts, &mut control, flags)?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(handed) = message {
            sockets.extend(handed);
        }
    }
    if received.bytes == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let mut reading = stream;
    reading.read_exact(length.get_mut(received.bytes..).unwrap_or_default())?;
    Ok((body(stream, length)?, sockets))
}

/// Whether the peer is still there, as far as this end has heard.
pub(super) fn is_open(stream: &UnixStream) -> bool {
    let mut byte = [0_u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match rustix::net::recv(stream.as_fd(), &mut byte, flags) {
        Ok((_, bytes)) => bytes > 0,
        Err(error) => error == rustix::io::Errno::AGAIN,
    }
}

fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len().saturating_sub(4)).unwrap_or(u32::MAX);
    if length > MOST_BYTES {
        return Err(io::Error::other("a message is too long to hand over"));
    }
    if let Some(head) = frame.first_chunk_mut() {
        *head = length.to_be_bytes();
    }
    Ok(frame)
}

fn body<M: DeserializeOwned>(stream: &UnixStream, length: [u8; 4]) -> io::Result<M> {
    let length = u32::from_be_bytes(length);
    if length > MOST_BYTES {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "a message is too long",
        ));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let mut reading = stream;
    reading.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_socket_that_is_handed_over_listens_where_it_did() {
        let (old, new) = UnixStream::pair().expect("a pair");
        let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = socket.local_addr().expect("an address");
        send_with(&old, &json!({"offer": 1}), &[socket.as_fd()]).expect("sent");
        send(&old, &json!("next")).expect("sent");
        drop(socket);
        let (offer, sockets) = receive_with::<Value>(&new).expect("received");
        assert_eq!(offer, json!({"offer": 1}));
        assert_eq!(receive::<Value>(&new).expect("received"), json!("next"));
        let [socket] = <[OwnedFd; 1]>::try_from(sockets).expect("one socket");
        let socket = TcpListener::from(socket);
        assert_eq!(socket.local_addr().expect("an address"), address);
        std::net::TcpStream::connect(address).expect("somebody listens");
    }

    #[test]
    fn a_peer_that_is_gone_and_a_message_without_end_are_errors() {
        let (old, new) = UnixStream::pair().expect("a pair");
        assert!(is_open(&old));
        (&new).write_all(&u32::MAX.to_be_bytes()).expect("sent");
        assert!(
            receive::<Value>(&old).is_err(),
            "4 GiB are not made room for"
        );
        drop(new);
        assert!(!is_open(&old));
        assert!(receive_with::<Value>(&old).is_err());
    }
}
