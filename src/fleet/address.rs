//! A machine's IP address, in its canonical form.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};

/// An IP address in the one form that it has in the product, whatever way it was written: an IPv4 address inside an IPv6
/// one (`::ffff:203.0.113.9`) is IPv4, and there is no zone (`%eth0`), which means something on one machine only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(IpAddr);

/// The text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddress;

impl Address {
    pub const fn ip(self) -> IpAddr {
        self.0
    }

    /// Whether it is in one of the networks, as [`network`] reads them.
    pub fn is_within(self, networks: &[IpNet]) -> bool {
        networks.iter().any(|network| network.contains(&self.0))
    }

    /// An address as proxies write it: with or without a port, and IPv6 with or without brackets.
    pub fn with_port(text: &str) -> Result<Self, NoAddress> {
        let (address, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or(NoAddress)?;
                let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(NoAddress)?) };
                // What stands in brackets is IPv6.
                (Some(address).filter(|address| address.contains(':')).ok_or(NoAddress)?, port)
            }
            None => match text.split_once(':') {
                Some((address, port)) if !port.contains(':') => (address, Some(port)),
                Some(_) | None => (text, None),
            },
        };
        if port.is_none_or(is_port) { address.parse() } else { Err(NoAddress) }
    }
}

/// A port number, or, in RFC 7239, an obfuscated one that begins with an underscore.
fn is_port(text: &str) -> bool {
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match text.strip_prefix('_') {
        Some(word) => !word.is_empty() && is_word(word),
        None => text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }
}

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let (address, is_in_zone) = match text.split_once('%') {
            Some((_, "")) => return Err(NoAddress),
            Some((address, _)) => (address, true),
            None => (text, false),
        };
        match address.parse() {
            Ok(IpAddr::V4(_)) if is_in_zone => Err(NoAddress),
            Ok(ip) => Ok(Self::from(ip)),
            Err(_) => Err(NoAddress),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A network in its one form: without bits beyond its length, and one of IPv4 addresses inside IPv6
/// (`::ffff:10.0.0.0/104`) is IPv4. An address alone is a network of one.
pub fn network(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse().ok().map(|address: Address| address.ip().into());
    };
    // Without the zone; what must not have one has been refused.
    let _: Address = address.parse().ok()?;
    let address = address.split('%').next()?;
    let network: IpNet = format!("{address}/{length}").parse().ok()?;
    let inner = match network.addr().to_canonical() {
        IpAddr::V4(ip) if network.max_prefix_len() == 128 => {
            network.prefix_len().checked_sub(96).and_then(|length| Ipv4Net::new(ip, length).ok())
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    Some(inner.map_or(network, IpNet::V4).trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form_however_it_is_written() {
        let shown = |text: &str| text.parse().map(|address: Address| address.to_string());
        for (text, form) in [
            ("203.0.113.9", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("::FFFF:cb00:7109", "203.0.113.9"),
            ("2001:DB8:0:0::1", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("::ffff:203.0.113.9%2", "203.0.113.9"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(form), "{text}");
        }
        for wrong in
            ["", "h", "203.0.113.9%eth0", "fe80::1%", "203.0.113.9:80", "[2001:db8::1]", " 203.0.113.9", "1.2.3"]
        {
            assert_eq!(shown(wrong), Err(NoAddress), "{wrong}");
        }
    }

    #[test]
    fn what_proxies_write_is_understood_with_its_port_and_brackets() {
        let shown = |text: &str| Address::with_port(text).map(|address| address.to_string());
        for (text, form) in [
            ("203.0.113.10", "203.0.113.10"),
            ("203.0.113.10:51234", "203.0.113.10"),
            ("203.0.113.10:_web", "203.0.113.10"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[fe80::1%eth0]:443", "fe80::1"),
            ("[::ffff:203.0.113.9]:1", "203.0.113.9"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(form), "{text}");
        }
        for wrong in [
            "",
            "unknown",
            "_hidden",
            "localhost",
            "203.0.113.10:",
            "203.0.113.10:x",
            "203.0.113.10:65536",
            "203.0.113.10:+1",
            "203.0.113.10:_",
            "[203.0.113.10]:1",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]443",
            "[2001:db8::1]:",
            "[]",
            "[]:1",
            ":1",
            "[[2001:db8::1]]",
        ] {
            assert_eq!(shown(wrong), Err(NoAddress), "{wrong}");
        }
    }

    #[test]
    fn a_network_has_one_form_and_contains_addresses_in_theirs() {
        let shown = |text: &str| network(text).map(|network| network.to_string());
        for (text, form) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
            ("::ffff:127.0.0.1", "127.0.0.1/32"),
            ("::ffff:7f00:1/128", "127.0.0.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("fd00::1/8", "fd00::/8"),
            ("fe80::1%eth0", "fe80::1/128"),
            ("fe80::1%eth0/64", "fe80::/64"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(form), "{text}");
        }
        for wrong in ["", "h", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::ffff:10.0.0.0/129", "10.0.0.1%x/8", "/8"] {
            assert_eq!(shown(wrong), None, "{wrong}");
        }
        let networks = [network("::ffff:127.0.0.0/104").unwrap()];
        for inside in ["127.0.0.1", "::ffff:127.0.0.1"] {
            assert!(inside.parse::<Address>().unwrap().is_within(&networks), "{inside}");
        }
        assert!(!"::1".parse::<Address>().unwrap().is_within(&networks));
    }
}
