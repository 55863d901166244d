//! Sockets to listen on.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{ANSWER_TIMEOUT_MS, LISTEN_BACKLOG, UNSENT_MAX_BYTES};

/// Listens on the address. A connection whose peer takes nothing of what waits for it is cut after [`ANSWER_TIMEOUT_MS`].
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_with(address, Duration::from_millis(ANSWER_TIMEOUT_MS))
}

/// As [`listen`], with another time.
pub(crate) fn listen_with(address: SocketAddr, send_timeout: Duration) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    bound_sending(&socket, send_timeout)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Lets the kernel cut connections whose peer has stalled, since nobody here is called while a send buffer is full; and
/// keep no megabytes for them until then. Connections have it from the socket that accepts them.
#[cfg(target_os = "linux")]
fn bound_sending(socket: &Socket, timeout: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout))?;
    socket.set_tcp_notsent_lowat(UNSENT_MAX_BYTES)
}

/// Other systems have no such thing.
#[cfg(not(target_os = "linux"))]
fn bound_sending(_: &Socket, _: Duration) -> io::Result<()> {
    Ok(())
}

/// Where a listener can be reached from this machine.
pub fn host_of(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_loopback() || ip.is_unspecified() => format!("localhost:{}", address.port()),
        IpAddr::V4(_) | IpAddr::V6(_) => address.to_string(),
    }
}
