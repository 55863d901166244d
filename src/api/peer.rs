//! The client's address.
//!
//! A trusted proxy names its client in the one header that the configuration selects. A header that cannot be parsed means
//! an unknown address, never the proxy's own: an unknown address is in no network, so nothing is allowed because of it.

use std::{iter::Peekable, net::SocketAddr, str::Chars};

use actix_web::{
    HttpRequest,
    http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue, X_FORWARDED_FOR},
};
use ipnet::IpNet;

use super::ApiState;
use crate::{config::ForwardedHeader, fleet::Address};

/// The address of the client: the peer's, or, when the peer is a trusted proxy, the one in the header. None if the
/// header cannot be parsed.
pub(super) fn address(request: &HttpRequest, state: &ApiState) -> Option<Address> {
    client(request.peer_addr(), request.headers(), &state.trusted_proxies, state.forwarded_header)
}

/// Whether the address is in one of the networks; an unknown one is in none.
pub(super) fn is_within(networks: &[IpNet], address: Option<Address>) -> bool {
    address.is_some_and(|address| address.is_within(networks))
}

/// The same, from a request's headers.
pub(super) fn client(
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
    proxies: &[IpNet],
    believed: ForwardedHeader,
) -> Option<Address> {
    let mut client = Address::from(peer?.ip());
    if proxies.is_empty() || !client.is_within(proxies) {
        return Some(client);
    }
    let hops_in: fn(&str) -> Hops = match believed {
        ForwardedHeader::XForwardedFor => listed,
        ForwardedHeader::Forwarded => forwarded,
    };
    // Each proxy appends the address it was called from, so hops are read from the last; what stands before the first
    // address that is not a proxy's was written by the client and may be anything.
    let lines: Vec<&HeaderValue> = headers.get_all(header(believed)).collect();
    for line in lines.into_iter().rev() {
        let hops = line.to_str().map_or_else(|_| vec![None], hops_in);
        for hop in hops.into_iter().rev() {
            client = hop?;
            if !client.is_within(proxies) {
                return Some(client);
            }
        }
    }
    Some(client)
}

/// The header in which a trusted proxy names its client.
pub(super) fn header(believed: ForwardedHeader) -> HeaderName {
    match believed {
        ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
        ForwardedHeader::Forwarded => FORWARDED,
    }
}

/// The hops of a header line, in order; None for one that cannot be parsed.
type Hops = Vec<Option<Address>>;

/// `X-Forwarded-For`: addresses between commas. An empty one is from a proxy that did not know its client.
fn listed(line: &str) -> Hops {
    line.split(',').map(|hop| Address::with_port(hop.trim_matches(BLANK)).ok()).collect()
}

const BLANK: [char; 2] = [' ', '\t'];

/// `Forwarded` (RFC 7239): elements between commas, each of them pairs between semicolons, of which `for` is the address.
/// A line that does not follow its grammar is one hop that cannot be read: a quotation mark of the client's could make
/// anything of what a proxy has appended.
fn forwarded(line: &str) -> Hops {
    elements(line).unwrap_or_else(|| vec![None])
}

fn elements(line: &str) -> Option<Hops> {
    let (mut hops, mut rest) = (Vec::new(), line.chars().peekable());
    loop {
        let (hop, goes_on) = element(&mut rest)?;
        hops.push(hop);
        if !goes_on {
            return Some(hops);
        }
    }
}

/// An element, and whether there is one more. None if it is none.
fn element(rest: &mut Peekable<Chars<'_>>) -> Option<(Option<Address>, bool)> {
    let mut hop = None;
    loop {
        skip_blank(rest);
        let name = token(rest);
        if !name.is_empty() {
            let _equals = rest.next_if_eq(&'=')?;
            let value = if rest.next_if_eq(&'"').is_some() { quoted(rest)? } else { unquoted(rest) };
            if name.eq_ignore_ascii_case("for") && hop.replace(value).is_some() {
                return None;
            }
        }
        skip_blank(rest);
        let end = rest.next();
        match end {
            Some(';') => {}
            Some(',') | None => return Some((hop.and_then(|hop| Address::with_port(&hop).ok()), end.is_some())),
            Some(_) => return None,
        }
    }
}

fn skip_blank(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| BLANK.contains(c)).is_some() {}
}

fn take_while(rest: &mut Peekable<Chars<'_>>, wanted: impl Fn(char) -> bool) -> String {
    std::iter::from_fn(|| rest.next_if(|c| wanted(*c))).collect()
}

fn token(rest: &mut Peekable<Chars<'_>>) -> String {
    take_while(rest, |c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

/// Wider than a token: many write an address with its port, or IPv6, without the quotation marks that it needs.
fn unquoted(rest: &mut Peekable<Chars<'_>>) -> String {
    take_while(rest, |c| !BLANK.contains(&c) && !";,\"=".contains(c))
}

/// What stands before the closing quotation mark; the opening one has been read.
fn quoted(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => text.push(rest.next()?),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::network;

    /// The client that these lines name when they come from a trusted proxy, 10.0.0.1.
    fn client_in(believed: ForwardedHeader, lines: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = match believed {
                ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
                ForwardedHeader::Forwarded => FORWARDED,
            };
            headers.append(name, HeaderValue::from_bytes(line).unwrap());
        }
        let proxies = [network("10.0.0.0/8").unwrap(), network("fd00::/8").unwrap()];
        let peer = Some("[::ffff:10.0.0.1]:40000".parse().unwrap());
        client(peer, &headers, &proxies, believed).map(|address| address.to_string())
    }

    #[test]
    fn what_a_header_says_is_the_clients_address_or_none() {
        let x_forwarded_for: &[(&str, Option<&str>)] = &[
            ("203.0.113.10", Some("203.0.113.10")),
            ("203.0.113.10:51234", Some("203.0.113.10")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("::ffff:203.0.113.9", Some("203.0.113.9")),
            ("192.0.2.1, 203.0.113.10:1 ,\t[fd00::2]:8, 10.0.0.9", Some("203.0.113.10")),
            ("nonsense, 203.0.113.10", Some("203.0.113.10")),
            ("10.0.0.7, 10.0.0.9", Some("10.0.0.7")),
            ("unknown", None),
            ("203.0.113.10, unknown", None),
            ("203.0.113.10, _hidden", None),
            ("203.0.113.10, unknown, 10.0.0.9", None),
            ("203.0.113.10,", None),
            ("203.0.113.10, ,10.0.0.9", None),
            (",", None),
            ("", None),
            ("unix:", None),
            ("203.0.113.10;10.0.0.9", None),
            ("for=203.0.113.10", None),
        ];
        let forwarded: &[(&str, Option<&str>)] = &[
            ("for=203.0.113.10", Some("203.0.113.10")),
            ("For=\"203.0.113.10:47011\"", Some("203.0.113.10")),
            ("for=203.0.113.10:47011", Some("203.0.113.10")),
            ("for=\"[2001:db8:cafe::17]:4711\"", Some("2001:db8:cafe::17")),
            ("for=\"\\[2001:db8:cafe::17\\]\"", Some("2001:db8:cafe::17")),
            ("for=203.0.113.10;proto=http;by=203.0.113.43", Some("203.0.113.10")),
            ("proto=\"a,b;for=192.0.2.1\" ; for=203.0.113.10", Some("203.0.113.10")),
            ("for=192.0.2.1, for=203.0.113.10 , for=\"[fd00::2]\";by=x, for=10.0.0.9", Some("203.0.113.10")),
            ("for=\"a\", for=203.0.113.10", Some("203.0.113.10")),
            ("for=unknown", None),
            ("for=_hidden", None),
            ("for=\"_hidden:_port\"", None),
            ("proto=https", None),
            ("for=203.0.113.10, proto=https", None),
            ("for=203.0.113.10,", None),
            ("", None),
            // What a client may begin, and a proxy ends without knowing.
            ("for=\"192.0.2.1, for=203.0.113.10", None),
            ("for=192.0.2.1;x=\", for=\"[2001:db8::1]\"", None),
            ("for=192.0.2.1;x=\"\\, for=203.0.113.10", None),
            ("for=192.0.2.1;for=203.0.113.10", None),
            ("for 203.0.113.10", None),
            ("203.0.113.10", None),
        ];
        for (believed, table) in
            [(ForwardedHeader::XForwardedFor, x_forwarded_for), (ForwardedHeader::Forwarded, forwarded)]
        {
            for (line, address) in table {
                assert_eq!(client_in(believed, &[line.as_bytes()]).as_deref(), *address, "{believed:?}: {line:?}");
            }
        }
    }

    #[test]
    fn lines_are_read_from_the_last_one_and_only_as_far_as_needed() {
        for (believed, client, proxy) in [
            (ForwardedHeader::XForwardedFor, &b"203.0.113.10"[..], &b"10.0.0.9"[..]),
            (ForwardedHeader::Forwarded, b"for=203.0.113.10", b"for=10.0.0.9"),
        ] {
            let client_in = |lines: &[&[u8]]| client_in(believed, lines);
            assert_eq!(client_in(&[b"\xff", client, proxy]).as_deref(), Some("203.0.113.10"));
            assert_eq!(client_in(&[client, b"\xff"]), None);
            assert_eq!(client_in(&[]).as_deref(), Some("10.0.0.1"), "a proxy that says nothing calls for itself");
        }
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_the_client_whatever_it_says() {
        let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_static("unknown"))]);
        let client = |peer: Option<&str>, proxies: &[IpNet]| {
            let peer = peer.map(|peer| peer.parse().unwrap());
            client(peer, &headers, proxies, ForwardedHeader::XForwardedFor).map(|address| address.to_string())
        };
        let proxies = [network("10.0.0.0/8").unwrap()];
        assert_eq!(client(Some("192.0.2.7:1"), &proxies).as_deref(), Some("192.0.2.7"));
        assert_eq!(client(Some("[::ffff:192.0.2.7]:1"), &[]).as_deref(), Some("192.0.2.7"));
        assert_eq!(client(Some("10.0.0.1:1"), &proxies), None);
        assert_eq!(client(None, &proxies), None);
        assert!(!is_within(&[network("0.0.0.0/0").unwrap(), network("::/0").unwrap()], None));
    }
}
