//! IP addresses and CIDRs: strict for new fields, lenient where old objects may hold odd spellings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const NOT_AN_INTERFACE_ADDRESS: &str =
    "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";

/// Parses an address as old versions did: octets may have leading zeros (and are decimal), IPv4-mapped is IPv4.
pub fn parse_ip_sloppy(value: &str) -> Option<IpAddr> {
    if value.contains(':') {
        return value.parse::<Ipv6Addr>().ok().map(unmap);
    }
    let mut octets = [0_u8; 4];
    let mut parts = value.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = part.trim_start_matches('0');
        *octet = if digits.is_empty() {
            0
        } else {
            digits.parse().ok()?
        };
    }
    parts
        .next()
        .is_none()
        .then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

fn unmap(address: Ipv6Addr) -> IpAddr {
    match address.to_ipv4_mapped() {
        Some(v4) => IpAddr::V4(v4),
        None => IpAddr::V6(address),
    }
}

fn is_mapped(value: &str) -> bool {
    value
        .parse::<Ipv6Addr>()
        .is_ok_and(|a| a.to_ipv4_mapped().is_some())
}

fn canonical(text: &str) -> String {
    format!("must be in canonical form (\"{text}\")")
}

/// An address in its canonical spelling.
pub fn ip(value: &str) -> Vec<String> {
    let messages = legacy_ip(value, true);
    match parse_ip_sloppy(value) {
        Some(address) if messages.is_empty() && address.to_string() != value => {
            vec![canonical(&address.to_string())]
        }
        _ => messages,
    }
}

/// An address of an old field: leading zeros and IPv4-mapped addresses pass unless `strict`.
pub fn legacy_ip(value: &str, strict: bool) -> Vec<String> {
    if parse_ip_sloppy(value).is_none() {
        return vec![NOT_AN_IP.to_owned()];
    }
    let mut messages = Vec::new();
    if strict && value.parse::<IpAddr>().is_err() {
        messages.push("must not have leading 0s".to_owned());
    }
    if strict && is_mapped(value) {
        messages.push("must not be an IPv4-mapped IPv6 address".to_owned());
    }
    messages
}

/// The network and its prefix length, parsed as old versions did.
pub fn parse_cidr_sloppy(value: &str) -> Option<(IpAddr, u8)> {
    cidr_sloppy(value).map(|cidr| (cidr.net.network(), cidr.net.prefix_len()))
}

struct Cidr {
    address: IpAddr,
    net: IpNet,
}

/// Parses as old versions did; a prefix of an IPv4-mapped address counts from the IPv4 part.
fn cidr_sloppy(value: &str) -> Option<Cidr> {
    let (address, length) = value.split_once('/')?;
    if length.is_empty() || length.len() > 9 || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let length: u8 = length.parse().ok().filter(|n| *n <= 128)?;
    let raw: Option<Ipv6Addr> = address.parse().ok();
    let mapped = is_mapped(address);
    let address = parse_ip_sloppy(address)?;
    let net = match (raw, length.checked_sub(96)) {
        (Some(_), Some(short)) if mapped => IpNet::new(address, short).ok()?,
        // A prefix that ends before the IPv4 part.
        (Some(raw), None) if mapped => IpNet::new(raw.into(), length).ok()?,
        _ => IpNet::new(address, length).ok()?,
    };
    Some(Cidr { address, net })
}

/// A CIDR in its canonical spelling.
pub fn cidr(value: &str) -> Vec<String> {
    let messages = legacy_cidr(value, true);
    match cidr_sloppy(value) {
        Some(cidr) if messages.is_empty() && cidr.net.trunc().to_string() != value => {
            vec![canonical(&cidr.net.trunc().to_string())]
        }
        _ => messages,
    }
}

/// A CIDR of an old field: odd spellings pass unless `strict`.
pub fn legacy_cidr(value: &str, strict: bool) -> Vec<String> {
    let Some(cidr) = cidr_sloppy(value) else {
        return vec![NOT_A_CIDR.to_owned()];
    };
    let (address, length) = value.split_once('/').unwrap_or((value, ""));
    let zeros = address.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0'));
    let problem = match () {
        () if !strict => return Vec::new(),
        () if zeros => "must not have leading 0s in IP or prefix length",
        () if is_mapped(address) => "must not have an IPv4-mapped IPv6 address",
        () if cidr.address != cidr.net.network() => {
            "must not have bits set beyond the prefix length"
        }
        () => return Vec::new(),
    };
    vec![problem.to_owned()]
}

/// An address with its prefix length, as network interfaces have.
pub fn interface_address(value: &str) -> Vec<String> {
    let Some(cidr) = cidr_sloppy(value) else {
        return vec![NOT_AN_INTERFACE_ADDRESS.to_owned()];
    };
    let text = format!("{}/{}", cidr.address, cidr.net.prefix_len());
    if text == value {
        Vec::new()
    } else {
        vec![canonical(&text)]
    }
}

/// What the writer of an address that is let through should know about its spelling.
pub fn ip_warning(value: &str) -> Option<String> {
    let address = parse_ip_sloppy(value)?;
    let canonical = address.to_string();
    if value.parse::<IpAddr>().is_err() || is_mapped(value) {
        return Some(format!(
            "non-standard IP address {value:?} is invalid: use {canonical:?}"
        ));
    }
    (address.is_ipv6() && canonical != value).then(|| {
        format!("IPv6 address {value:?} should be in RFC 5952 canonical format ({canonical:?})")
    })
}

/// What the writer of a CIDR that is let through should know about its spelling.
pub fn cidr_warnings(value: &str) -> Vec<String> {
    let Some(cidr) = cidr_sloppy(value) else {
        return Vec::new();
    };
    let net = cidr.net.trunc();
    let mut warnings = Vec::new();
    if cidr.address != net.network() {
        let single = format!("{}/{}", cidr.address, net.max_prefix_len());
        let net = net.to_string();
        warnings.push(format!(
            "CIDR value {value:?} is ambiguous in this context (should be {net:?} or {single:?}?)"
        ));
    }
    let (address, length) = value.split_once('/').unwrap_or((value, ""));
    let zeros = address.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0'));
    let canonical = net.to_string();
    if zeros || is_mapped(address) {
        warnings.push(format!(
            "non-standard CIDR value {value:?} is invalid: use {canonical:?}"
        ));
    }
    if warnings.is_empty() && net.network().is_ipv6() && canonical != value {
        warnings.push(format!(
            "IPv6 CIDR value {value:?} should be in RFC 5952 canonical format ({canonical:?})"
        ));
    }
    warnings
}
