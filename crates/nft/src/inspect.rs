//! What others have in nftables that concerns us.

use netlink_bindings::nftables::{Nfgenmsg, OpGetchainDump, Request};
use netlink_socket2::NetlinkSocket;

use crate::model::Hook;

/// `NFPROTO_INET` and `NFPROTO_IPV4`: the families whose chains see IPv4 packets that pass through.
const FAMILIES: [(u8, &str); 2] = [(1, "inet"), (2, "ip")];
/// `NF_DROP`.
const DROP: u32 = 0;

/// The chains of this network namespace that drop, unless a rule says otherwise, what passes through the machine; as
/// `ip filter FORWARD`. A packet that one chain drops no other chain can save, so what has to pass needs a rule there.
/// (Chains of the older `iptables-legacy` are not seen.)
///
/// # Errors
/// The kernel does not say.
pub fn chains_that_drop_forwarded() -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for (family, name) in FAMILIES {
        let mut header = Nfgenmsg::new();
        header.nfgen_family = family;
        let mut socket = NetlinkSocket::new();
        let request = OpGetchainDump::new(Request::new(), &header);
        let mut replies = socket.request(&request)?;
        while let Some(reply) = replies.recv() {
            let (_, chain) = reply.map_err(std::io::Error::other)?;
            let hook = chain.get_hook().and_then(|hook| hook.get_num());
            let drops = chain.get_policy().is_ok_and(|policy| policy == DROP);
            if drops && hook.is_ok_and(|hook| hook == Hook::Forward.number()) {
                let text = |text: Option<&std::ffi::CStr>| {
                    text.map(|t| t.to_string_lossy().into_owned())
                        .unwrap_or_default()
                };
                let table = text(chain.get_table().ok());
                let chain = text(chain.get_name().ok());
                found.push(format!("{name} {table} {chain}"));
            }
        }
    }
    Ok(found)
}
