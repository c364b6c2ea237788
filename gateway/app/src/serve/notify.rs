//! Tells systemd, or whoever set `NOTIFY_SOCKET`, how far the service is (sd_notify(3)).
//!
//! One datagram each: that it serves, that it ends. Not that another process is the main one, since
//! a successor belongs to a unit of its own. Decides nothing. Worst case: nobody hears it, and a
//! unit of type `notify` counts as not started.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::warn;

use crate::config::Vars;

/// Where to.
pub(super) struct Notify(Option<SocketAddr>);

/// That it serves.
pub(super) const READY: &str = "READY=1\nSTATUS=serving";
/// That it ends.
pub(super) const STOPPING: &str = "STOPPING=1\nSTATUS=calls under way finish";

impl Notify {
    /// To whom the environment says, if it says so.
    pub(super) fn of(vars: &dyn Vars) -> Self {
        let named = vars.var("NOTIFY_SOCKET");
        let address = named.map(|name| match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        });
        let address = address.transpose().unwrap_or_else(|error| {
            warn!(%error, "NOTIFY_SOCKET is no socket's name");
            None
        });
        Self(address)
    }

    /// Says it.
    pub(super) fn say(&self, state: &str) {
        let Some(to) = &self.0 else { return };
        if let Err(error) = send(to, state) {
            warn!(%error, state, "whoever started this service was not told how far it is");
        }
    }
}

fn send(to: &SocketAddr, state: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // Whoever does not read must not hold the gateway up.
    socket.set_nonblocking(true)?;
    let _sent = socket.send_to_addr(state.as_bytes(), to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_is_said_to_a_socket_with_a_path_or_an_abstract_name_and_to_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify").display().to_string();
        let name = format!("tollgate-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let named = format!("@{name}");
        for (heard, value) in [
            (UnixDatagram::bind(&path).unwrap(), &*path),
            (UnixDatagram::bind_addr(&address).unwrap(), &*named),
        ] {
            let notify = Notify::of(&BTreeMap::from([("NOTIFY_SOCKET", value)]));
            notify.say(READY);
            let mut bytes = [0; 256];
            let length = heard.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], READY.as_bytes());
        }
        for value in ["/nowhere/at/all", &"x".repeat(300)] {
            Notify::of(&BTreeMap::from([("NOTIFY_SOCKET", value)])).say(STOPPING);
        }
        Notify::of(&BTreeMap::<&str, &str>::new()).say(READY);
    }
}
