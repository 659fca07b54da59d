//! Carries a [`Batch`] to the kernel over netlink.

use netlink_bindings::nftables::{
    self, Chained, CmpOps, Nfgenmsg, PayloadBase, PushExprAttrs, PushExprListAttrs, SetFlags,
    VerdictCode,
};
use netlink_bindings::traits::{NetlinkChained, Pusher};
use netlink_bindings::utils::{finalize_nested_header, push_header, push_nested_header};

use crate::model::{Batch, Chain, Change, Data, Expr, Register, Rule, Set, Value, Verdict};
use crate::transaction;

/// Elements in one netlink message; a message's attributes hold at most 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 500;
/// The number of the first message of a transaction.
const FIRST_MESSAGE: u32 = 1;
/// Elements that rules may put into one map; without a limit the kernel takes none.
const REMEMBERED: u32 = 65_535;
/// `AF_INET`.
const FAMILY_IPV4: u8 = 2;
/// `NFT_REG32_00`: where the 4-byte registers start.
const FIRST_REGISTER: u32 = 8;
/// `NFT_DATA_VERDICT`.
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// `NFT_FIB_RESULT_ADDRTYPE`; the bindings' own numbers of fib results are one too low.
const FIB_RESULT_ADDRESS_TYPE: u32 = 3;
/// `NFNL_SUBSYS_NFTABLES`, the subsystem that a batch addresses.
const SUBSYSTEM: u16 = 10;

/// The kernel did not take a batch; nothing of it was applied.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused the nftables transaction on table {table}: {reason}")]
pub struct Error {
    /// The table.
    pub table: String,
    /// What the kernel says.
    pub reason: String,
    /// Its error number, when it gave one.
    pub errno: Option<i32>,
}

/// Applies the whole batch as one transaction.
///
/// # Errors
/// The kernel refused it; nothing was applied.
pub fn commit(batch: &Batch) -> Result<(), Error> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut chained = Chained::new(FIRST_MESSAGE);
    chained.request().op_batch_begin_do(&batch_header());
    for change in &batch.changes {
        encode(&mut chained, &batch.table, change);
    }
    chained.request().op_batch_end_do(&batch_header());
    let finished = chained.finalize();
    let failed = |reason: String, errno: Option<i32>| Error {
        table: batch.table.clone(),
        reason,
        errno,
    };
    let refused = transaction::send(finished.payload())
        .map_err(|error| failed(error.to_string(), error.raw_os_error()))?;
    let Some(refused) = refused else {
        return Ok(());
    };
    let at = refused.sequence.wrapping_sub(FIRST_MESSAGE);
    let index = usize::try_from(at).unwrap_or(usize::MAX);
    let what = match index < finished.chain_len() {
        true => finished.name(index),
        false => "the batch",
    };
    let error = std::io::Error::from_raw_os_error(refused.errno);
    let reason = format!("{error} in {what} (position={index})");
    Err(failed(reason, Some(refused.errno)))
}

/// Removes a table and all in it; a table that is not there is fine.
///
/// # Errors
/// The kernel refused.
pub fn delete_table(table: &str) -> Result<(), Error> {
    // Adding first makes the deletion succeed whether or not the table was there.
    let changes = vec![Change::AddTable, Change::DeleteTable];
    commit(&Batch {
        table: table.to_owned(),
        changes,
    })
}

fn batch_header() -> Nfgenmsg {
    let mut header = Nfgenmsg::new();
    header.set_res_id(SUBSYSTEM);
    header
}

fn header() -> Nfgenmsg {
    Nfgenmsg {
        nfgen_family: FAMILY_IPV4,
        ..Default::default()
    }
}

fn encode(chained: &mut Chained<'_>, table: &str, change: &Change) {
    let table = table.as_bytes();
    match change {
        Change::AddTable => {
            let request = chained.request().set_create();
            request
                .op_newtable_do(&header())
                .encode()
                .push_name_bytes(table);
        }
        Change::DeleteTable => {
            chained
                .request()
                .op_deltable_do(&header())
                .encode()
                .push_name_bytes(table);
        }
        Change::AddChain(chain) => add_chain(chained, table, chain),
        Change::FlushChain(name) => {
            let mut request = chained.request().op_delrule_do(&header());
            request
                .encode()
                .push_table_bytes(table)
                .push_chain_bytes(name.as_bytes());
        }
        Change::DeleteChain(name) => {
            let mut request = chained.request().op_delchain_do(&header());
            request
                .encode()
                .push_table_bytes(table)
                .push_name_bytes(name.as_bytes());
        }
        Change::AddRule(chain, rule) => add_rule(chained, table, chain, rule),
        Change::AddSet(set) => add_set(chained, table, set),
        Change::AddElements(set, elements) => {
            for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
                add_elements(chained, table, set, part);
            }
        }
        Change::DeleteElements(set, keys) => {
            for part in keys.chunks(ELEMENTS_PER_MESSAGE) {
                delete_elements(chained, table, set, part);
            }
        }
    }
}

fn add_chain(chained: &mut Chained<'_>, table: &[u8], chain: &Chain) {
    let mut request = chained.request().set_create().op_newchain_do(&header());
    let attributes = request.encode().push_table_bytes(table);
    let attributes = attributes.push_name_bytes(chain.name.as_bytes());
    if let Some((kind, hook, priority)) = chain.base {
        attributes
            .nested_hook()
            .push_num(hook.number())
            .push_priority(priority)
            .end_nested()
            .push_type_bytes(kind.as_bytes());
    }
}

fn add_set(chained: &mut Chained<'_>, table: &[u8], set: &Set) {
    // nft packs the types of a concatenation six bits each, for listings.
    let key_type = set
        .key
        .iter()
        .fold(0, |all, part| (all << 6) | part.type_number());
    let key_len = u32::try_from(set.key.len() * 4).expect("a key has a few parts");
    let id = chained.request().set_create();
    let mut request = id.op_newset_do(&header());
    let attributes = request
        .encode()
        .push_table_bytes(table)
        .push_name_bytes(set.name.as_bytes())
        .push_key_type(key_type)
        .push_key_len(key_len)
        .push_id(1);
    match set.data {
        Data::None => {
            attributes.push_flags(0);
        }
        Data::Verdict => {
            attributes
                .push_flags(SetFlags::Map as u32)
                .push_data_type(VERDICT_TYPE);
        }
        Data::AddressAndPort => {
            attributes
                .push_flags(SetFlags::Map as u32)
                .push_data_type((7 << 6) | 13)
                .push_data_len(8);
        }
        Data::Remembered => {
            let flags = SetFlags::Map as u32 | SetFlags::Timeout as u32 | SetFlags::Eval as u32;
            attributes
                .push_flags(flags)
                .push_data_type((7 << 6) | 13)
                .push_data_len(8)
                .nested_desc()
                .push_size(REMEMBERED)
                .end_nested();
        }
    }
}

fn add_elements(chained: &mut Chained<'_>, table: &[u8], set: &str, elements: &[(Vec<u8>, Value)]) {
    let mut request = chained.request().set_create().op_newsetelem_do(&header());
    let attributes = request
        .encode()
        .push_table_bytes(table)
        .push_set_bytes(set.as_bytes())
        .nested_elements();
    elements.iter().fold(attributes, |list, (key, value)| {
        let element = list.nested_elem().nested_key().push_value(key).end_nested();
        match value {
            Value::None => element.end_nested(),
            Value::Data(data) => element
                .nested_data()
                .push_value(data)
                .end_nested()
                .end_nested(),
            Value::Verdict(verdict) => {
                let data = element.nested_data().nested_verdict();
                let data = data.push_code(verdict_code(verdict));
                let data = match verdict {
                    Verdict::Jump(chain) | Verdict::Goto(chain) => {
                        data.push_chain_bytes(chain.as_bytes())
                    }
                    _ => data,
                };
                data.end_nested().end_nested().end_nested()
            }
        }
    });
}

fn delete_elements(chained: &mut Chained<'_>, table: &[u8], set: &str, keys: &[Vec<u8>]) {
    let mut request = chained.request().op_delsetelem_do(&header());
    let attributes = request
        .encode()
        .push_table_bytes(table)
        .push_set_bytes(set.as_bytes())
        .nested_elements();
    keys.iter().fold(attributes, |list, key| {
        list.nested_elem()
            .nested_key()
            .push_value(key)
            .end_nested()
            .end_nested()
    });
}

fn add_rule(chained: &mut Chained<'_>, table: &[u8], chain: &str, rule: &Rule) {
    let mut request = chained
        .request()
        .set_create()
        .set_append()
        .op_newrule_do(&header());
    let list = request
        .encode()
        .push_table_bytes(table)
        .push_chain_bytes(chain.as_bytes())
        .nested_expressions();
    rule.0.iter().fold(list, push_expr);
}

fn register(register: Register) -> u32 {
    FIRST_REGISTER + u32::from(register)
}

fn verdict_code(verdict: &Verdict) -> u32 {
    let code = match verdict {
        Verdict::Accept => VerdictCode::Accept,
        Verdict::Drop => VerdictCode::Drop,
        Verdict::Return => VerdictCode::Return,
        Verdict::Jump(_) => VerdictCode::Jump,
        Verdict::Goto(_) => VerdictCode::Goto,
    };
    code as u32
}

/// The expression list of a rule, whatever it is nested in.
type List<P> = PushExprListAttrs<P>;

fn push_expr<P: Pusher>(list: List<P>, expr: &Expr) -> List<P> {
    let elem = list.nested_elem();
    match expr {
        Expr::Network { offset, len, to } => {
            payload(elem, PayloadBase::NetworkHeader, *offset, *len, *to)
        }
        Expr::Transport { offset, len, to } => {
            payload(elem, PayloadBase::TransportHeader, *offset, *len, *to)
        }
        Expr::Protocol(to) => meta(elem, nftables::MetaKeys::L4Proto, *to),
        Expr::Mark(to) => meta(elem, nftables::MetaKeys::Mark, *to),
        Expr::InterfaceIn(to) => meta(elem, nftables::MetaKeys::Iifname, *to),
        Expr::InterfaceOut(to) => meta(elem, nftables::MetaKeys::Oifname, *to),
        Expr::SetMark(from) => elem
            .nested_data_meta()
            .push_key(nftables::MetaKeys::Mark as u32)
            .push_sreg(register(*from))
            .end_nested()
            .end_nested(),
        Expr::DestinationType(to) => address_type(elem, nftables::FibFlags::Daddr, *to),
        Expr::SourceType(to) => address_type(elem, nftables::FibFlags::Saddr, *to),
        Expr::ConnectionState(to) => elem
            .nested_data_ct()
            .push_dreg(register(*to))
            .push_key(nftables::CtKeys::State as u32)
            .end_nested()
            .end_nested(),
        Expr::ConnectionStatus(to) => elem
            .nested_data_ct()
            .push_dreg(register(*to))
            .push_key(nftables::CtKeys::Status as u32)
            .end_nested()
            .end_nested(),
        Expr::Constant(to, value) => elem
            .nested_data_immediate()
            .push_dreg(register(*to))
            .nested_data()
            .push_value(value)
            .end_nested()
            .end_nested()
            .end_nested(),
        Expr::Equal(from, value) => compare(elem, CmpOps::Eq, *from, value),
        Expr::NotEqual(from, value) => compare(elem, CmpOps::Neq, *from, value),
        Expr::Bitwise(at, mask, xor) => bitwise(elem, *at, mask, xor),
        _ => push_action(elem, expr),
    }
}

/// The expressions that look up or act, rather than load or compare.
fn push_action<P: Pusher>(elem: PushExprAttrs<List<P>>, expr: &Expr) -> List<P> {
    match expr {
        Expr::Lookup(from, set) => lookup(elem, *from, set, None, false),
        Expr::LookupNot(from, set) => lookup(elem, *from, set, None, true),
        Expr::Map(from, set, to) => lookup(elem, *from, set, Some(register(*to)), false),
        // Register 0 is the verdict.
        Expr::VerdictMap(from, set) => lookup(elem, *from, set, Some(0), false),
        Expr::Random(to, modulus) => elem
            .nested_data_numgen()
            // The bindings forget to turn this one around.
            .push_dreg(register(*to).to_be())
            .push_modulus(*modulus)
            .push_type(1)
            .push_offset(0)
            .end_nested()
            .end_nested(),
        Expr::Remember {
            key,
            map,
            value,
            seconds,
        } => dynset(elem, map, *key, *value, Some(*seconds)),
        Expr::Forget { key, map, value } => dynset(elem, map, *key, *value, None),
        Expr::Dnat(address, port) => elem
            .nested_data_nat()
            .push_type(1)
            .push_family(u32::from(FAMILY_IPV4))
            .push_reg_addr_min(register(*address))
            .push_reg_proto_min(register(*port))
            .end_nested()
            .end_nested(),
        // Without attributes: the outgoing interface's address, and a port that is free there.
        Expr::Masquerade => elem.push_name(c"masq").end_nested(),
        // Type 0: ICMP unreachable; code 3: port.
        Expr::Reject => elem
            .nested_data_reject()
            .push_type(0)
            .push_icmp_code(3)
            .end_nested()
            .end_nested(),
        Expr::Counter => elem
            .nested_data_counter()
            .push_bytes(0)
            .push_packets(0)
            .end_nested()
            .end_nested(),
        Expr::Verdict(verdict) => {
            let data = elem
                .nested_data_immediate()
                .push_dreg(0)
                .nested_data()
                .nested_verdict();
            let data = data.push_code(verdict_code(verdict));
            let data = match verdict {
                Verdict::Jump(chain) | Verdict::Goto(chain) => {
                    data.push_chain_bytes(chain.as_bytes())
                }
                _ => data,
            };
            data.end_nested().end_nested().end_nested().end_nested()
        }
        _ => unreachable!("push_expr handles every expression that loads or compares"),
    }
}

type Elem<P> = PushExprAttrs<List<P>>;

fn payload<P: Pusher>(
    elem: Elem<P>,
    base: PayloadBase,
    offset: u32,
    len: u32,
    to: Register,
) -> List<P> {
    elem.nested_data_payload()
        .push_dreg(register(to))
        .push_base(base as u32)
        .push_offset(offset)
        .push_len(len)
        .end_nested()
        .end_nested()
}

fn meta<P: Pusher>(elem: Elem<P>, key: nftables::MetaKeys, to: Register) -> List<P> {
    elem.nested_data_meta()
        .push_key(key as u32)
        .push_dreg(register(to))
        .end_nested()
        .end_nested()
}

fn address_type<P: Pusher>(elem: Elem<P>, of: nftables::FibFlags, to: Register) -> List<P> {
    elem.nested_data_fib()
        .push_dreg(register(to))
        .push_result(FIB_RESULT_ADDRESS_TYPE)
        .push_flags(of as u32)
        .end_nested()
        .end_nested()
}

/// The expression that changes a map as packets pass. The bindings do not know it: its attributes are
/// `NFTA_DYNSET_SET_NAME` 1, `_OP` 3 (update 1, delete 2), `_SREG_KEY` 4, `_SREG_DATA` 5, `_TIMEOUT` 6 (milliseconds).
fn dynset<P: Pusher>(
    elem: Elem<P>,
    map: &str,
    key: Register,
    value: Register,
    seconds: Option<u32>,
) -> List<P> {
    let mut elem = elem.push_name(c"dynset");
    let bytes = elem.as_vec_mut();
    let data = push_nested_header(bytes, 2);
    let len = u16::try_from(map.len() + 1).expect("names of maps are short");
    push_header(bytes, 1, len);
    bytes.extend(map.as_bytes());
    bytes.push(0);
    let mut number = |kind, value: u32| {
        push_header(bytes, kind, 4);
        bytes.extend(value.to_be_bytes());
    };
    number(3, if seconds.is_some() { 1 } else { 2 });
    number(4, register(key));
    number(5, register(value));
    if let Some(seconds) = seconds {
        push_header(bytes, 6, 8);
        bytes.extend((u64::from(seconds) * 1000).to_be_bytes());
    }
    finalize_nested_header(bytes, data);
    elem.end_nested()
}

fn compare<P: Pusher>(elem: Elem<P>, op: CmpOps, from: Register, value: &[u8]) -> List<P> {
    elem.nested_data_cmp()
        .push_sreg(register(from))
        .push_op(op as u32)
        .nested_data()
        .push_value(value)
        .end_nested()
        .end_nested()
        .end_nested()
}

fn bitwise<P: Pusher>(elem: Elem<P>, at: Register, mask: &[u8], xor: &[u8]) -> List<P> {
    let len = u32::try_from(mask.len()).expect("a mask fits registers");
    elem.nested_data_bitwise()
        .push_sreg(register(at))
        .push_dreg(register(at))
        .push_len(len)
        .nested_mask()
        .push_value(mask)
        .end_nested()
        .nested_xor()
        .push_value(xor)
        .end_nested()
        .end_nested()
        .end_nested()
}

fn lookup<P: Pusher>(
    elem: Elem<P>,
    from: Register,
    set: &str,
    to: Option<u32>,
    invert: bool,
) -> List<P> {
    // The bindings number these attributes one too high: what they call "set id" is the kernel's source register, and
    // their source register is its destination register.
    let data = elem
        .nested_data_lookup()
        .push_set_bytes(set.as_bytes())
        .push_set_id(register(from));
    let data = match to {
        Some(to) => data.push_sreg(to),
        None => data.push_flags(u32::from(invert)),
    };
    data.end_nested().end_nested()
}
