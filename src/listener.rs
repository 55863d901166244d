//! Sockets to listen on.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
};

/// Listens on the address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    /// Connections that wait to be accepted: a fleet that comes back all at once. The system may allow less.
    const BACKLOG: i32 = 16_384;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Where a listener can be reached from this machine.
pub fn host_of(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_loopback() || ip.is_unspecified() => format!("localhost:{}", address.port()),
        IpAddr::V4(_) | IpAddr::V6(_) => address.to_string(),
    }
}
