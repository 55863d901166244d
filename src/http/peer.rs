//! Where a request comes from.

use std::net::{IpAddr, Ipv4Addr};

use actix_http::RequestHead;
use actix_web::HttpRequest;
use ipnet::IpNet;

use super::ApiState;

/// The address of the client: the peer's, or, when the peer is a trusted proxy, the last address in `X-Forwarded-For`
/// that is not a trusted proxy's.
pub(super) fn address(request: &HttpRequest, state: &ApiState) -> IpAddr {
    address_of(request.head(), &state.trusted_proxies)
}

/// The same, of a request that is not the framework's yet.
pub(super) fn address_of(head: &RequestHead, proxies: &[IpNet]) -> IpAddr {
    let peer = head.peer_addr.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
    if !is_within(proxies, peer) {
        return peer;
    }
    // Each proxy appends the address it was called from, so the list is read from its end; what stands before the first
    // address that is not a proxy's was written by the client and may say anything.
    let headers: Vec<&str> =
        head.headers.get_all("x-forwarded-for").filter_map(|header| header.to_str().ok()).collect();
    let mut client = peer;
    for hop in headers.iter().rev().flat_map(|header| header.rsplit(',')) {
        let Ok(hop) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        client = hop.to_canonical();
        if !is_within(proxies, client) {
            break;
        }
    }
    client
}

/// Whether the address is in one of the networks.
pub(super) fn is_within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}
